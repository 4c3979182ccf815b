package boards

import (
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Space is the room on a file system, in bytes.
type Space struct {
	Total int64 `json:"total"`
	Free  int64 `json:"free"` // for programs that are not root's
}

// Card is a device that files are on, and how worn it is.
type Card struct {
	Name    string `json:"name"`              // "mmcblk0"
	Kind    string `json:"kind,omitempty"`    // "SD", "MMC" (an eMMC) or a disk's model
	Written *int64 `json:"written,omitempty"` // bytes since boot

	// Wear is how much of its life an eMMC has used at most, in percent, in
	// steps of ten; above 100 it is past it. SD cards do not tell.
	Wear *int `json:"wear,omitempty"`
	// Spare says how an eMMC's reserve is: "normal", "warning" (80 % used),
	// "urgent" (90 %).
	Spare string `json:"spare,omitempty"`
}

// space asks for the file system that a path is on.
func space(path string) *Space {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil || st.Bsize <= 0 || st.Blocks == 0 {
		return nil
	}
	size := uint64(st.Bsize)
	if st.Blocks > 1<<62/size {
		return nil
	}
	return &Space{Total: int64(st.Blocks * size), Free: int64(min(uint64(st.Bavail), st.Blocks) * size)}
}

// cards reads the block devices that are hardware.
func (s sensors) cards() (out []Card) {
	for _, dir := range s.find("sys/block/*") {
		c := Card{Name: printable(filepath.Base(dir))}
		kind, card := s.text(filepath.Join(dir, "device/type")) // "SD", "MMC"; a number on SCSI
		if _, err := strconv.Atoi(kind); !card || err == nil {
			if kind, card = s.text(filepath.Join(dir, "device/model")); !card {
				continue // loop, ram, zram, device mapper
			}
		}
		c.Kind = printable(kind)
		if text, ok := s.text(filepath.Join(dir, "stat")); ok {
			c.Written = written(text)
		}
		if text, ok := s.text(filepath.Join(dir, "device/life_time")); ok {
			c.Wear = lifeTime(text)
		}
		if text, ok := s.text(filepath.Join(dir, "device/pre_eol_info")); ok {
			c.Spare = spares[number(text)]
		}
		out = append(out, c)
	}
	return out
}

// written reads the seventh number of a block device's stat: sectors written,
// of 512 bytes each whatever the device has (Documentation/block/stat.rst).
func written(text string) *int64 {
	f := strings.Fields(text)
	if len(f) < 7 {
		return nil
	}
	n, err := strconv.ParseInt(f[6], 10, 64)
	if err != nil || n < 0 || n > 1<<50 {
		return nil
	}
	n *= 512
	return &n
}

// lifeTime reads an eMMC's two estimates, "0x01 0x02": n means that n tenths
// of its life are used at most, 0 that it does not tell (JEDEC JESD84-B51,
// DEVICE_LIFE_TIME_EST_TYP_A and _B). The worse of the two counts.
func lifeTime(text string) *int {
	var worst int
	for _, f := range strings.Fields(text) {
		if n := number(f); n >= 1 && n <= 11 {
			worst = max(worst, int(n)*10)
		}
	}
	if worst == 0 {
		return nil
	}
	return &worst
}

// spares is PRE_EOL_INFO of the same standard.
var spares = map[uint64]string{1: "normal", 2: "warning", 3: "urgent"}
