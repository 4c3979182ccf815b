package source

import (
	"bytes"
	"errors"
	"image/color"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"dunlin/model/prep"
)

// The sizes, places and call numbers that gcc has of Linux 6.1's videodev2.h,
// with -m64 and -m32; arm lays these out as -m32 does, for there is nothing of
// 64 bits in them. No camera is needed to get them wrong.
func TestV4L2Layout(t *testing.T) {
	type layout struct {
		capability, desc, pix, format, request, buffer uintptr
		formatPix, bufferMemory, bufferM, bufferLength uintptr
		queryCap, enumFmt, setFmt, reqBufs, queryBuf   uintptr
		qBuf, dqBuf, on, off                           uintptr
	}
	want := layout{
		104, 64, 48, 208, 20, 88,
		8, 60, 64, 72,
		0x80685600, 0xc0405602, 0xc0d05605, 0xc0145608, 0xc0585609,
		0xc058560f, 0xc0585611, 0x40045612, 0x40045613,
	}
	if unsafe.Sizeof(uintptr(0)) == 4 {
		want.format, want.buffer, want.formatPix = 204, 68, 4
		want.bufferMemory, want.bufferM, want.bufferLength = 48, 52, 56
		want.setFmt, want.queryBuf, want.qBuf, want.dqBuf = 0xc0cc5605, 0xc0445609, 0xc044560f, 0xc0445611
	}
	got := layout{
		unsafe.Sizeof(v4l2Capability{}), unsafe.Sizeof(v4l2FormatDesc{}), unsafe.Sizeof(v4l2Pix{}),
		unsafe.Sizeof(v4l2Format{}), unsafe.Sizeof(v4l2RequestBuffers{}), unsafe.Sizeof(v4l2Buffer{}),
		unsafe.Offsetof(v4l2Format{}.pix), unsafe.Offsetof(v4l2Buffer{}.memory), unsafe.Offsetof(v4l2Buffer{}.offset), unsafe.Offsetof(v4l2Buffer{}.length),
		vidiocQueryCap, vidiocEnumFmt, vidiocSetFmt, vidiocReqBufs, vidiocQueryBuf,
		vidiocQBuf, vidiocDQBuf, vidiocStreamOn, vidiocStreamOff,
	}
	if got != want {
		t.Errorf("on %s: got  %+v\nwant %+v", runtime.GOARCH, got, want)
	}
	if s := formatMJPG.String(); s != "MJPG" || formatMJPG != 0x47504a4d {
		t.Errorf("%s is %#x", s, uint32(formatMJPG))
	}
}

func TestV4L2Format(t *testing.T) {
	for _, x := range []struct {
		have []fourCC
		want fourCC
	}{
		{[]fourCC{formatYUYV, formatMJPG}, formatMJPG},
		{[]fourCC{cc("RG10"), formatYUYV}, formatYUYV},
		{[]fourCC{formatYUYV, formatJPEG}, formatJPEG},
	} {
		if got, err := chooseFormat(x.have); err != nil || got != x.want {
			t.Errorf("of %v: %v, %v", x.have, got, err)
		}
	}
	if _, err := chooseFormat([]fourCC{cc("RG10"), cc("H264")}); err == nil || !strings.Contains(err.Error(), "[RG10 H264]") {
		t.Errorf("%v", err)
	}
}

// What is no camera says so, and leaves no file open.
func TestV4L2Errors(t *testing.T) {
	if _, err := playOne(t, V4L2{Device: "/dev/null"}); err == nil || !strings.Contains(err.Error(), "/dev/null: no camera") {
		t.Errorf("no camera: %v", err)
	}
	if _, err := playOne(t, V4L2{Device: filepath.Join(t.TempDir(), "video9")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no device: %v", err)
	}
}

// The colours of television's bars, in both ranges, to within the rounding of
// 8 bits: Y, U and V are BT.601's of the colour.
func TestYUYV(t *testing.T) {
	for _, x := range []struct {
		full    bool
		y, u, v uint8
		want    color.RGBA
	}{
		{false, 16, 128, 128, color.RGBA{0, 0, 0, 255}},
		{false, 235, 128, 128, color.RGBA{255, 255, 255, 255}},
		{false, 81, 90, 240, color.RGBA{255, 0, 0, 255}},
		{false, 145, 54, 34, color.RGBA{0, 255, 0, 255}},
		{false, 41, 240, 110, color.RGBA{0, 0, 255, 255}},
		{false, 0, 0, 0, color.RGBA{0, 135, 0, 255}}, // beyond the range: clamped
		{true, 0, 128, 128, color.RGBA{0, 0, 0, 255}},
		{true, 255, 128, 128, color.RGBA{255, 255, 255, 255}},
		{true, 76, 85, 255, color.RGBA{254, 0, 0, 255}},
	} {
		data := make([]byte, 3*24) // 4 x 3 pixels in rows with a rest
		for y := range 3 {
			for i := range 2 {
				copy(data[24*y+4*i:], []byte{x.y, x.u, x.y, x.v})
			}
		}
		img, err := yuyv{4, 3, 24, x.full}.decode(data)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			c := img.RGBAAt(i%4, i/4)
			for _, d := range []int{int(c.R) - int(x.want.R), int(c.G) - int(x.want.G), int(c.B) - int(x.want.B)} {
				if d < -2 || d > 2 {
					t.Fatalf("Y %d U %d V %d, full %v: %v, want %v", x.y, x.u, x.v, x.full, c, x.want)
				}
			}
		}
	}
}

// Each pixel has its own Y and its pair's colour; as a file it is the same
// pixels, for the code that reads pictures.
func TestYUYVPixels(t *testing.T) {
	data := []byte{16, 128, 235, 128, 126, 128, 16, 128}
	f := yuyv{width: 2, height: 2, stride: 4}
	file, err := f.encode(data)
	if err != nil {
		t.Fatal(err)
	}
	img, err := prep.Decode(file, prep.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint8{0, 255, 128, 0} {
		r, g, b, _ := img.At(i%2, i/2).RGBA()
		if uint8(r>>8) != want || r != g || g != b {
			t.Errorf("pixel %d: %d %d %d, want %d", i, r>>8, g>>8, b>>8, want)
		}
	}
	for _, bad := range []struct {
		f yuyv
		n int
	}{{yuyv{width: 3, height: 2, stride: 8}, 16}, {yuyv{width: 2, height: 2, stride: 3}, 8}, {f, 7}, {yuyv{}, 100}} {
		if _, err := bad.f.encode(bytes.Repeat([]byte{1}, bad.n)); err == nil {
			t.Errorf("%+v of %d bytes was taken", bad.f, bad.n)
		}
	}
}
