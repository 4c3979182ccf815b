// Package vm is the virtual board: QEMU with a kernel of Debian's and dunlin's
// agent as it ships, in about two seconds. Start with Named, New and
// Machine.Start; Flavour.Fetch gets the kernel, MakeDisk makes the card.
//
// Its promise: what it starts is cut off from every network but for the
// forwards it is given, Kill is a power cut, and nothing is left running or
// lying about after Close. It is no model of a board's speed: QEMU translates
// every instruction.
package vm

import (
	"fmt"
	"os"
	"strings"
)

// Board is a kind of board: what QEMU emulates, and what its kernel needs to
// see of it. A copy can be changed before New.
type Board struct {
	Name     string
	About    string // one line for people
	Flavour  Flavour
	QEMU     string // its program
	Machine  string // -machine
	CPU      string // -cpu; "": the machine's own
	Cores    int
	MemoryMB int    // 0: what the machine has
	DTB      string // device tree in the kernel's package; "": the machine's own
	Console  string // the kernel's name of the serial port
	Serial   int    // which of the machine's serial ports that is
	Net      string // -device of the network card
	Disk     string // -device of the disk; "": it is the machine's SD card
	Node     string // what the kernel calls the disk
	Modules  []string
	GOARCH   string
	GOARM    string
}

var (
	virtio = []string{"virtio_mmio", "virtio_net", "virtio_blk", "virtio_rng", "ext4"}
	pi     = []string{"dwc2", "phy_generic", "usbnet", "cdc_ether", "rndis_host", "bcm2835", "mmc_block", "ext4", "bcm2835_wdt"} // the watchdog turns the board off
)

// virt is QEMU's machine of Arm with the processor of a real board.
func virt(name, about, cpu string) Board {
	return Board{
		Name: name, About: about, Flavour: Cloud, QEMU: "qemu-system-aarch64", Machine: "virt", CPU: cpu, Cores: 2, MemoryMB: 512,
		Console: "ttyAMA0", Net: "virtio-net-device", Disk: "virtio-blk-device", Node: "/dev/vda", Modules: virtio, GOARCH: "arm64",
	}
}

// raspi is QEMU's Raspberry Pi 3 with the device tree of a board with that chip.
func raspi(name, about, dtb string) Board {
	return Board{
		Name: name, About: about, Flavour: Generic, QEMU: "qemu-system-aarch64", Machine: "raspi3b", Cores: 4, DTB: dtb,
		Console: "ttyS1,115200", Serial: 1, Net: "usb-net", Node: "/dev/mmcblk0", Modules: pi, GOARCH: "arm64",
	}
}

// Boards lists the kinds there are.
func Boards() []Board {
	armhf := virt("armhf", "a 32-bit board: Cortex-A15, the ARMv6 agent", "cortex-a15")
	armhf.Flavour, armhf.QEMU, armhf.GOARCH, armhf.GOARM = ARMHF, "qemu-system-arm", "arm", "6"
	return []Board{
		virt("virt", "QEMU's own machine with the processor of a Pi 4 (Cortex-A72)", "cortex-a72"),
		virt("virt-a53", "the same with a Pi 3's processor (Cortex-A53)", "cortex-a53"),
		virt("virt-a76", "the same with a Pi 5's processor (Cortex-A76: dotprod, fp16)", "cortex-a76"),
		raspi("pi3", "Raspberry Pi 3B+", "bcm2837-rpi-3-b-plus.dtb"),
		raspi("zero2w", "Raspberry Pi Zero 2 W", "bcm2837-rpi-zero-2-w.dtb"),
		armhf,
	}
}

// Named returns the kind of that name.
func Named(name string) (Board, error) {
	var names []string
	for _, b := range Boards() {
		if b.Name == name {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return Board{}, fmt.Errorf("board %q: want %s", name, strings.Join(names, ", "))
}

// CheckDisk holds that QEMU takes an image as the board's disk: a card's size
// must be a power of two.
func (b Board) CheckDisk(image string) error {
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	if size := info.Size(); b.Disk == "" && (size <= 0 || size&(size-1) != 0) {
		return &DiskError{image, size}
	}
	return nil
}

// DiskError is an image of a size that no card has.
type DiskError struct {
	Image string
	Bytes int64
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("disk %s: %d bytes, and QEMU takes a card only with a power of two of them", e.Image, e.Bytes)
}

// Hint is the command that lengthens it.
func (e *DiskError) Hint() string {
	next := int64(1) << 20
	for next < e.Bytes {
		next *= 2
	}
	return fmt.Sprintf("lengthen it: truncate -s %dM %s", next>>20, e.Image)
}

// qemu is the arguments that make the board.
func (b Board) qemu(k Kernel, initramfs, kernelArgs string) ([]string, error) {
	args := []string{
		"-machine", b.Machine, "-nodefaults", "-nographic", "-no-reboot", "-kernel", k.Image(), "-initrd", initramfs,
		"-append", strings.TrimSpace("console=" + b.Console + " quiet panic=-1 " + kernelArgs),
	}
	if b.CPU != "" {
		args = append(args, "-cpu", b.CPU)
	}
	if b.Cores > 0 {
		args = append(args, "-smp", fmt.Sprint(b.Cores))
	}
	if b.MemoryMB > 0 {
		args = append(args, "-m", fmt.Sprint(b.MemoryMB))
	}
	if b.DTB != "" {
		dtb, err := k.DTB(b.DTB)
		if err != nil {
			return nil, err
		}
		args = append(args, "-dtb", dtb)
	}
	for range b.Serial {
		args = append(args, "-serial", "null")
	}
	return args, nil
}
