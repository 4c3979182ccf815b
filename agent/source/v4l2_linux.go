package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The parts of Linux's videodev2.h that a camera with mapped buffers needs.
// The layouts are those of C on amd64, arm64 and arm; a test holds their sizes
// and the numbers of the calls against the header's.

type v4l2Capability struct {
	driver       [16]byte
	card         [32]byte
	bus          [32]byte
	version      uint32
	capabilities uint32
	deviceCaps   uint32
	_            [3]uint32
}

type v4l2FormatDesc struct {
	index, kind, flags uint32
	description        [32]byte
	pixelFormat        fourCC
	mbusCode           uint32
	_                  [3]uint32
}

type v4l2Pix struct {
	width, height          uint32
	pixelFormat            fourCC
	field                  uint32
	bytesPerLine           uint32
	sizeImage              uint32
	colorspace             uint32
	_, _, _                uint32 // priv, flags, encoding
	quantization, transfer uint32
}

type v4l2Format struct {
	kind uint32
	_    [0]uintptr // in C a union follows, which has pointers in it
	pix  v4l2Pix
	_    [200 - unsafe.Sizeof(v4l2Pix{})]byte
}

type v4l2RequestBuffers struct {
	count, kind, memory, capabilities uint32
	_                                 uint32
}

type v4l2Buffer struct {
	index, kind, bytesUsed, flags, field uint32
	timestamp                            [2]uintptr
	timecode                             [4]uint32
	sequence, memory                     uint32
	offset                               uintptr // a union; the offset is its lower half
	length                               uint32
	_, _                                 uint32
}

// fourCC names a pixel format.
type fourCC uint32

func (f fourCC) String() string {
	return strings.TrimSpace(strings.ToValidUTF8(string([]byte{byte(f), byte(f >> 8), byte(f >> 16), byte(f >> 24)}), "?"))
}

func cc(s string) fourCC {
	return fourCC(s[0]) | fourCC(s[1])<<8 | fourCC(s[2])<<16 | fourCC(s[3])<<24
}

var (
	formatMJPG = cc("MJPG")
	formatJPEG = cc("JPEG")
	formatYUYV = cc("YUYV")
)

const (
	capVideoCapture = 0x00000001
	capStreaming    = 0x04000000
	capDeviceCaps   = 0x80000000

	kindVideoCapture = 1
	memoryMapped     = 1
	bufferBroken     = 0x40 // V4L2_BUF_FLAG_ERROR
	colorspaceJPEG   = 7
	quantizationFull = 1
)

// The directions of _IOC.
const (
	iocWrite = 1
	iocRead  = 2
)

// ioc is _IOC('V', …) of the architectures that are supported here.
func ioc(direction, number, size uintptr) uintptr {
	return direction<<30 | size<<16 | 'V'<<8 | number
}

var (
	vidiocQueryCap  = ioc(iocRead, 0, unsafe.Sizeof(v4l2Capability{}))
	vidiocEnumFmt   = ioc(iocRead|iocWrite, 2, unsafe.Sizeof(v4l2FormatDesc{}))
	vidiocSetFmt    = ioc(iocRead|iocWrite, 5, unsafe.Sizeof(v4l2Format{}))
	vidiocReqBufs   = ioc(iocRead|iocWrite, 8, unsafe.Sizeof(v4l2RequestBuffers{}))
	vidiocQueryBuf  = ioc(iocRead|iocWrite, 9, unsafe.Sizeof(v4l2Buffer{}))
	vidiocQBuf      = ioc(iocRead|iocWrite, 15, unsafe.Sizeof(v4l2Buffer{}))
	vidiocDQBuf     = ioc(iocRead|iocWrite, 17, unsafe.Sizeof(v4l2Buffer{}))
	vidiocStreamOn  = ioc(iocWrite, 18, 4)
	vidiocStreamOff = ioc(iocWrite, 19, 4)
)

// V4L2 plays a camera of this machine, as Motion JPEG or, where it does not
// compress, as YUYV.
type V4L2 struct {
	Device        string        // "/dev/video0"
	Width, Height int           // that are asked for; the driver takes the nearest it can do
	MaxBytes      int           // of a picture
	Every         time.Duration // YUYV pictures are made into files no more often: that is most of the work
	Pace          *Pace         // makes that longer
	Silence       time.Duration // it is opened anew when no picture came for so long; 0: never
}

// Play implements Player.
func (c V4L2) Play(ctx context.Context, got func([]byte)) (err error) {
	ctx, alive, stop := watchdog(ctx, c.Silence)
	defer stop()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", c.Device, because(ctx, err))
		}
	}()
	fd, err := openDevice(c.Device)
	if err != nil {
		return err
	}
	d := &videoDevice{fd: fd}
	defer func() { err = errors.Join(err, d.close()) }()
	pix, err := d.format(c.Width, c.Height)
	if err != nil {
		return err
	}
	if err := d.start(c.MaxBytes); err != nil {
		return err
	}
	raw := yuyv{
		width: int(pix.width), height: int(pix.height), stride: int(pix.bytesPerLine),
		full: pix.quantization == quantizationFull || pix.quantization == 0 && pix.colorspace == colorspaceJPEG,
	}
	var last time.Time
	for {
		err := d.frame(ctx, func(data []byte) error {
			alive()
			if pix.pixelFormat != formatYUYV {
				if isPicture(data) { // the first ones may be anything
					got(bytes.Clone(data))
				}
				return nil
			}
			if !c.Pace.Due(last, c.Every) {
				return nil
			}
			last = time.Now()
			file, err := raw.encode(data)
			if err == nil {
				got(file)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
}

// openDevice opens a device file so that no call on it waits.
func openDevice(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// videoDevice is an open camera.
type videoDevice struct {
	fd      int
	buffers [][]byte
	on      bool
}

func (d *videoDevice) call(number uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.fd), number, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// format chooses a format that the camera has and is read here, and the size.
func (d *videoDevice) format(width, height int) (v4l2Pix, error) {
	var have v4l2Capability
	if err := d.call(vidiocQueryCap, unsafe.Pointer(&have)); err != nil {
		return v4l2Pix{}, fmt.Errorf("no camera: %w", err)
	}
	caps := have.capabilities
	if caps&capDeviceCaps != 0 {
		caps = have.deviceCaps
	}
	if caps&capVideoCapture == 0 || caps&capStreaming == 0 {
		return v4l2Pix{}, fmt.Errorf("%s gives no pictures in mapped buffers", unix.ByteSliceToString(have.card[:]))
	}
	var all []fourCC
	for i := range uint32(64) {
		desc := v4l2FormatDesc{index: i, kind: kindVideoCapture}
		if err := d.call(vidiocEnumFmt, unsafe.Pointer(&desc)); err != nil {
			break // EINVAL behind the last
		}
		all = append(all, desc.pixelFormat)
	}
	choice, err := chooseFormat(all)
	if err != nil {
		return v4l2Pix{}, fmt.Errorf("%s: %w", unix.ByteSliceToString(have.card[:]), err)
	}
	f := v4l2Format{kind: kindVideoCapture, pix: v4l2Pix{width: uint32(width), height: uint32(height), pixelFormat: choice}}
	if err := d.call(vidiocSetFmt, unsafe.Pointer(&f)); err != nil {
		return v4l2Pix{}, fmt.Errorf("set %v, %d x %d: %w", choice, width, height, err)
	}
	if f.pix.pixelFormat != choice {
		return v4l2Pix{}, fmt.Errorf("set %v: the driver chose %v", choice, f.pix.pixelFormat)
	}
	return f.pix, nil
}

// chooseFormat returns the best of a camera's formats.
func chooseFormat(all []fourCC) (fourCC, error) {
	for _, want := range []fourCC{formatMJPG, formatJPEG, formatYUYV} {
		for _, f := range all {
			if f == want {
				return f, nil
			}
		}
	}
	return 0, fmt.Errorf("it gives %v: want MJPG, JPEG or YUYV", all)
}

// bufferCount is how many pictures the driver can fill while one is read.
const bufferCount = 4

// start maps the buffers, hands them to the driver and begins.
func (d *videoDevice) start(most int) error {
	req := v4l2RequestBuffers{count: bufferCount, kind: kindVideoCapture, memory: memoryMapped}
	if err := d.call(vidiocReqBufs, unsafe.Pointer(&req)); err != nil {
		return fmt.Errorf("request buffers: %w", err)
	}
	for i := range req.count {
		b := v4l2Buffer{index: i, kind: kindVideoCapture, memory: memoryMapped}
		if err := d.call(vidiocQueryBuf, unsafe.Pointer(&b)); err != nil {
			return fmt.Errorf("query buffer %d: %w", i, err)
		}
		if int64(b.length) > int64(most) {
			return fmt.Errorf("%w: buffers of %d bytes, at most %d", errPartTooLarge, b.length, most)
		}
		mem, err := unix.Mmap(d.fd, int64(uint32(b.offset)), int(b.length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map buffer %d: %w", i, err)
		}
		d.buffers = append(d.buffers, mem)
		if err := d.call(vidiocQBuf, unsafe.Pointer(&b)); err != nil {
			return fmt.Errorf("queue buffer %d: %w", i, err)
		}
	}
	kind := int32(kindVideoCapture)
	if err := d.call(vidiocStreamOn, unsafe.Pointer(&kind)); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	d.on = true
	return nil
}

// lookAtEnd is how often a wait for a picture looks whether it should end.
const lookAtEnd = 100 * time.Millisecond

// frame waits for a picture, hands it to use and gives its buffer back.
func (d *videoDevice) frame(ctx context.Context, use func([]byte) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		ready := []unix.PollFd{{Fd: int32(d.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, int(lookAtEnd.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n <= 0 {
			continue
		}
		b := v4l2Buffer{kind: kindVideoCapture, memory: memoryMapped}
		switch err := d.call(vidiocDQBuf, unsafe.Pointer(&b)); {
		case errors.Is(err, unix.EAGAIN) && ready[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) == 0:
			continue
		case err != nil:
			return fmt.Errorf("take a picture: %w", err)
		case int(b.index) >= len(d.buffers):
			return fmt.Errorf("the driver filled buffer %d of %d", b.index, len(d.buffers))
		}
		mem := d.buffers[b.index]
		if b.flags&bufferBroken == 0 {
			err = use(mem[:min(int(b.bytesUsed), len(mem))])
		}
		if err := errors.Join(err, d.call(vidiocQBuf, unsafe.Pointer(&b))); err != nil {
			return err
		}
		return nil
	}
}

// close ends what start began and lets the camera go.
func (d *videoDevice) close() (err error) {
	if d.on {
		kind := int32(kindVideoCapture)
		// A camera that was unplugged has ended already.
		_ = d.call(vidiocStreamOff, unsafe.Pointer(&kind))
	}
	for _, b := range d.buffers {
		err = errors.Join(err, unix.Munmap(b))
	}
	return errors.Join(err, unix.Close(d.fd))
}
