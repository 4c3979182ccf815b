//go:build board

package e2e_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"dunlin/firmware-tools/vm"
)

// webcam is a USB camera that gives Motion JPEG. QEMU, which plugs it into a
// board, asks it in the protocol of usbredir:
//
//	camera -> socket -> QEMU's usb-redir -> xHCI -> the board's xhci_hcd, uvcvideo -> /dev/video0
//
// It is a camera of the USB video class with one format, one size and a bulk
// endpoint. As many do, it leaves the Huffman tables out of its pictures; and
// each other picture is broken, which it says in the headers of its payloads.
type webcam struct {
	good, broken [][]byte // pictures, with their tables
	conn         net.Conn
	wants        chan bulk // what the board waits for
	wide         bool      // both have said hello: ids are of 64 bits
	spoiled      atomic.Int64
}

// bulk asks for a payload of so many bytes.
type bulk struct {
	id     uint64
	length int
}

// The packets of usbredir (spice-space.org's usb-redirection-protocol, version
// 0.7) that a camera needs.
const (
	redirHello        = 0
	redirConnect      = 1
	redirInterfaces   = 4
	redirEndpoints    = 5
	redirSetConfig    = 6
	redirConfig       = 8
	redirSetAlternate = 9
	redirAlternate    = 11
	redirControl      = 100
	redirBulk         = 101

	redirStall        = 3                         // a status
	redirCapabilities = 1<<1 | 1<<4 | 1<<5 | 1<<6 // a device's version, endpoints' sizes, ids of 64 bits, lengths of 32: xHCI wants them
)

// What the camera is.
const (
	webcamEndpoint = 0x81
	webcamPayload  = 8192 // bytes of a payload, its header included
	webcamW        = 320
	webcamH        = 240
	webcamLargest  = 64 << 10 // bytes of a picture
	webcamEvery    = 50 * time.Millisecond

	// The header of a payload (USB Video Class 1.0, 2.4.3.3), two bytes: its
	// length, and of these bits the last, which changes with each picture.
	headerEnd    = 0x80
	headerBroken = 0x40
	headerLast   = 0x02 // of a picture's payloads
)

// plug makes a camera that waits for QEMU, and returns the arguments that plug
// it into a board.
func plug(t *testing.T) (*webcam, []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usb")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := &webcam{wants: make(chan bulk, 64)}
	for i := range 16 {
		c.good, c.broken = append(c.good, webcamPicture(t, i)), append(c.broken, webcamPicture(t, 100+i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() {
		conn, err := l.Accept()
		if err != nil { // nobody came
			close(done)
			return
		}
		c.conn = conn
		go func() { done <- c.play(ctx) }()
		done <- c.serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		l.Close()
		for range 2 { // the board has no power any more: QEMU's end of the socket is closed
			if err := <-done; err != nil {
				t.Errorf("the camera: %v", err)
			}
		}
	})
	return c, []string{"-device", "qemu-xhci", "-chardev", "socket,id=camera,path=" + path, "-device", "usb-redir,chardev=camera"}
}

// webcamPicture is a JPEG of its own for each i, of several payloads.
func webcamPicture(t *testing.T, i int) []byte {
	t.Helper()
	img := image.NewYCbCr(image.Rect(0, 0, webcamW, webcamH), image.YCbCrSubsampleRatio420) // of a grey one Go writes two tables, of the four there are
	for j := range img.Y {
		img.Y[j] = uint8(j*(i+1) + j/webcamW*i)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil || b.Len() <= webcamPayload || b.Len() > webcamLargest {
		t.Fatalf("picture %d: %d bytes, %v", i, b.Len(), err)
	}
	return b.Bytes()
}

// send writes a packet: kind, length and id, then its parts.
func (c *webcam) send(kind uint32, id uint64, parts ...any) error {
	var body []byte
	for _, p := range parts {
		body, _ = binary.Append(body, binary.LittleEndian, p) // all are of a fixed size
	}
	head := binary.LittleEndian.AppendUint64(nil, uint64(kind)|uint64(len(body))<<32)
	if c.wide {
		head = binary.LittleEndian.AppendUint64(head, id)
	} else {
		head = binary.LittleEndian.AppendUint32(head, uint32(id))
	}
	_, err := c.conn.Write(append(head, body...)) // one call: whole, whoever else writes
	return err
}

// serve answers QEMU until ctx, or QEMU, ends.
func (c *webcam) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	var version [64]byte
	err := c.send(redirHello, 0, version, uint32(redirCapabilities))
	for err == nil {
		head := make([]byte, 12, 16)
		if c.wide {
			head = head[:16]
		}
		if _, err = io.ReadFull(c.conn, head); err != nil {
			break
		}
		kind, length := binary.LittleEndian.Uint32(head), binary.LittleEndian.Uint32(head[4:])
		id := binary.LittleEndian.Uint64(append(head, 0, 0, 0, 0)[8:])
		body := make([]byte, length)
		if _, err = io.ReadFull(c.conn, body); err == nil {
			err = c.answer(kind, id, body)
		}
	}
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	return err
}

// answer answers a packet. What the board cancels is answered all the same,
// which QEMU passes over.
func (c *webcam) answer(kind uint32, id uint64, body []byte) error {
	switch kind {
	case redirHello:
		c.wide = true
		if err := c.describe(); err != nil {
			return err
		}
		// High speed; its class says that its interfaces belong together.
		return c.send(redirConnect, 0, []byte{2, 0xef, 2, 1}, []uint16{0x1209, 1, 0x0100})
	case redirSetConfig:
		if err := c.describe(); err != nil {
			return err
		}
		return c.send(redirConfig, id, []byte{0, body[0]})
	case redirSetAlternate:
		return c.send(redirAlternate, id, []byte{0, body[0], body[1]})
	case redirControl:
		return c.control(id, body)
	case redirBulk:
		c.wants <- bulk{id, int(binary.LittleEndian.Uint16(body[2:])) | int(binary.LittleEndian.Uint16(body[8:]))<<16}
	}
	return nil
}

// describe says to QEMU which interfaces and endpoints there are.
func (c *webcam) describe() error {
	number, class, subclass, protocol := [32]byte{0, 1}, [32]byte{0x0e, 0x0e}, [32]byte{1, 2}, [32]byte{}
	if err := c.send(redirInterfaces, 0, uint32(2), number, class, subclass, protocol); err != nil {
		return err
	}
	var kinds, interval, of [32]byte
	var size [32]uint16
	for i := range kinds {
		kinds[i] = 0xff // there is none
	}
	kinds[0], kinds[16], size[0], size[16] = 0, 0, 64, 64
	kinds[17], of[17], size[17] = 2, 1, 512 // bulk: 16 for one that gives, and its number
	return c.send(redirEndpoints, 0, kinds, interval, of, size)
}

// u32 is a number as descriptors have it.
func u32(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

// described puts a descriptor's length before it.
func described(parts ...[]byte) []byte {
	d := slices.Concat(parts...)
	return append([]byte{byte(len(d) + 1)}, d...)
}

// webcamInterval is from one picture to the next, in 100 ns.
const webcamInterval = int(webcamEvery / 100)

// The descriptors of USB 2.0, 9.6, and of the video class, 3.7 to 3.9, with its
// payload of Motion JPEG, 3.1; and what camera and board agree on (4.3.1.1): the
// one format, in its one size.
var (
	webcamDevice = described([]byte{1, 0x00, 0x02, 0xef, 2, 1, 64, 0x09, 0x12, 1, 0, 0x00, 0x01, 0, 0, 0, 1})
	webcamConfig = makeWebcamConfig()
	webcamAgreed = slices.Concat([]byte{0, 0, 1, 1}, u32(webcamInterval), make([]byte, 10), u32(webcamLargest), u32(webcamPayload))
)

func makeWebcamConfig() []byte {
	terminals := slices.Concat(
		described([]byte{0x24, 2, 1, 0x01, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0}), // 1 is a camera
		described([]byte{0x24, 3, 2, 0x01, 0x01, 0, 1, 0}),                   // 2 is USB, and shows 1
	)
	formats := slices.Concat(
		described([]byte{0x24, 6, 1, 1, 0, 1, 0, 0, 0, 0}), // Motion JPEG, of one size:
		described([]byte{0x24, 7, 1, 0, webcamW & 0xff, webcamW >> 8, webcamH, 0}, u32(1_000_000), u32(10_000_000), u32(webcamLargest),
			u32(webcamInterval), []byte{1}, u32(webcamInterval)),
	)
	all := slices.Concat(
		described([]byte{11, 0, 2, 0x0e, 3, 0, 0}),   // two interfaces are one camera
		described([]byte{4, 0, 0, 0, 0x0e, 1, 0, 0}), // interface 0: control
		described([]byte{0x24, 1, 0x00, 0x01, byte(13 + len(terminals)), 0}, u32(48_000_000), []byte{1, 1}), terminals,
		described([]byte{4, 1, 0, 1, 0x0e, 2, 0, 0}), // interface 1: pictures
		described([]byte{0x24, 1, 1, byte(14 + len(formats)), 0, webcamEndpoint, 0, 2, 0, 0, 0, 1, 0}), formats,
		described([]byte{5, webcamEndpoint, 2, 0x00, 0x02, 0}), // bulk, 512 bytes
	)
	return slices.Concat([]byte{9, 2, byte(9 + len(all)), byte((9 + len(all)) >> 8), 2, 1, 0, 0x80, 50}, all)
}

// control answers a request to endpoint 0.
func (c *webcam) control(id uint64, body []byte) error {
	request, kind, value, length := body[1], body[2], binary.LittleEndian.Uint16(body[4:]), int(binary.LittleEndian.Uint16(body[8:]))
	status, data := byte(0), []byte(nil)
	switch {
	case kind&0x80 == 0: // it takes what it is told, and stays as it is
		return c.send(redirControl, id, body[:3], status, body[4:10])
	case kind == 0x80 && request == 6 && value>>8 == 1:
		data = webcamDevice
	case kind == 0x80 && request == 6 && value>>8 == 2:
		data = webcamConfig
	case kind == 0x80 && request == 0: // its status: powered by the bus
		data = []byte{0, 0}
	case kind == 0xa1 && request == 0x85: // of what follows the length,
		data = []byte{byte(len(webcamAgreed)), 0}
	case kind == 0xa1 && request == 0x86: // what can be done with it:
		data = []byte{3} // to get it and to set it
	case kind == 0xa1: // and what it is, at least, at most, by default
		data = webcamAgreed
	default:
		status = redirStall
	}
	data = data[:min(len(data), length)]
	return c.send(redirControl, id, body[:3], status, body[4:8], uint16(len(data)), data)
}

// play gives pictures, cut into payloads, as the board asks for them.
func (c *webcam) play(ctx context.Context) error {
	for n := 0; ; n++ {
		file, header := c.good[n/2%len(c.good)], byte(headerEnd)
		if n%2 == 1 {
			file, header = c.broken[n/2%len(c.broken)], headerEnd|headerBroken|1
		}
		for data := withoutTables(file); len(data) > 0; {
			var want bulk
			select {
			case want = <-c.wants:
			case <-ctx.Done():
				return nil
			}
			room := min(len(data), webcamPayload-2, want.length-2)
			if room == len(data) {
				header |= headerLast
			}
			if err := c.send(redirBulk, want.id, []byte{webcamEndpoint, 0}, uint16(room+2), uint32(0), uint16(0), []byte{2, header}, data[:room]); err != nil {
				return nil // serve says why
			}
			data = data[room:]
		}
		c.spoiled.Add(int64(n % 2))
		time.Sleep(webcamEvery) // that is how long a picture takes
	}
}

// withoutTables cuts the Huffman tables out of a JPEG.
func withoutTables(file []byte) []byte {
	at := bytes.Index(file, []byte{0xff, 0xc4})
	return slices.Concat(file[:at], file[at+2+int(binary.BigEndian.Uint16(file[at+2:])):])
}

// TestBoardWebcam has a USB camera that gives Motion JPEG looked at through
// the kernel's driver. What is answered for is what the camera sent, with the
// tables that decoders of files want, bit for bit; and no picture that it
// called broken.
func TestBoardWebcam(t *testing.T) {
	e, f := theExample(t), startBoardFleet(t)
	camera, args := plug(t)
	b := f.newBoard(generic(t), "webcam", cameraSource+"every_ms = 200\n", func(c *vm.Config) {
		c.Modules = []string{"xhci_pci", "uvcvideo nodrop=1"} // the driver drops no broken picture, it marks it
	})
	f.offer(e)
	b.start(vm.Boot{Args: args})
	wait(t, 60*time.Second, "the agent to offer the camera", func() error {
		var offers struct {
			Inputs []struct{ Kind, Path, Name string }
		}
		out, err := b.vm.Run(t.Context(), "/usr/bin/dunlin-agent", "sources", "-json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &offers)
		}
		cameras := slices.DeleteFunc(offers.Inputs, func(in struct{ Kind, Path, Name string }) bool { return in.Kind != "camera" })
		if err == nil && (len(cameras) != 1 || cameras[0].Path != "/dev/video0" || cameras[0].Name != "UVC Camera (1209:0001)") {
			err = fmt.Errorf("it offers %+v", cameras) // a second would be the one that has no pictures, but what goes with them
		}
		return err
	})
	// The board has no udev that gives a camera's file to its group when the
	// camera comes; it does so before it starts the service.
	for _, on := range []bool{false, true} {
		if err := b.vm.Service(t.Context(), on); err != nil {
			t.Fatal(err)
		}
	}
	b.runs(e.digest)
	f.frames("webcam", 8)
	good := map[string]bool{}
	for _, file := range camera.good {
		good[fmt.Sprintf("sha256:%x", sha256.Sum256(file))] = true
	}
	rows, err := f.results()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if !good[r.Result.Input] {
			t.Errorf("a picture that the camera did not send, or called broken: %s", r.Result.Input)
		}
	}
	if camera.spoiled.Load() < 4 {
		t.Errorf("%d broken pictures", camera.spoiled.Load())
	}
	b.stop()
}
