// Package guest is the first program of a virtual board, process 1 in its
// initramfs: it loads the kernel's modules, mounts what programs expect, gives
// the network card its address, and then keeps the agent running as systemd
// does on a real board. Start with Main; Plan is what it is told.
//
// Its promise: each step it takes is a line on the console that begins with
// Mark, and it answers on Port as long as the board has power. It is no
// general init: it knows one service.
package guest

// Mark begins each line on the console that is this program's own.
const Mark = "@vm "

// The addresses of QEMU's user network: the board's own, and the one at which
// a forward to the host appears.
const (
	Address = "10.0.2.15"
	HubHost = "10.0.2.100"
	Port    = 80 // at Address: what a test asks of the board, see serve.go
)

// PlanFile is where Main finds its plan, in the initramfs.
const PlanFile = "/plan.json"

// ClockArg is the kernel's argument with the time that the board wakes up
// with, in nanoseconds since 1970: a network's time on a good day, what an
// unlucky clock chip says on another.
const ClockArg = "dunlin.clock="

// Plan is what the board does after the kernel is up.
type Plan struct {
	Modules []Module `json:"modules"` // in the order of their needs
	Disk    string   `json:"disk"`    // the node with the ext4 that becomes Root; "": Root is in memory
	Service Service  `json:"service"`
	Reach   []Reach  `json:"reach"`
}

// Reach is an address outside that programs on the board call by its own
// name: whoever connects to Host and Port is led to Via at HubHost.
type Reach struct {
	Host string `json:"host"`
	Port int    `json:"port"`
	Via  int    `json:"via"`
}

// Module is a kernel module in the initramfs.
type Module struct {
	Path string `json:"path"`
	Args string `json:"args"`
}

// Service is the one program that is kept running, in the terms of
// systemd.service(5).
type Service struct {
	Exec       []string `json:"exec"` // nothing: none is run
	Env        []string `json:"env"`
	User       int      `json:"user"`        // User and Group, as a number; 0: root
	State      string   `json:"state"`       // StateDirectory, below Root: made, and given to User; "": none
	WatchdogMS int      `json:"watchdog_ms"` // WatchdogSec; 0: none
	RestartMS  int      `json:"restart_ms"`  // RestartSec
	StartMS    int      `json:"start_ms"`    // TimeoutStartSec
	StopMS     int      `json:"stop_ms"`     // TimeoutStopSec
}

// State is what GET /vm answers.
type State struct {
	Service   string   `json:"service"` // "starting", "ready", "waiting", "off"
	PID       int      `json:"pid"`
	Starts    int      `json:"starts"`    // since boot
	Watchdogs int      `json:"watchdogs"` // of the ends, by the watchdog
	Status    string   `json:"status"`    // the service's last STATUS=
	LastEnd   string   `json:"last_end"`  // how it ended last
	UptimeMS  int64    `json:"uptime_ms"` // of the kernel
	Kernel    string   `json:"kernel"`
	Troubles  []string `json:"troubles"` // of the way up: modules, mounts, network
}

// Command is a program that POST /run starts in Root.
type Command struct {
	Exec  []string `json:"exec"`
	Stdin []byte   `json:"stdin"`
}

// Output is how it went.
type Output struct {
	Exit   int    `json:"exit"` // -1: by a signal, or it did not start
	Stdout []byte `json:"stdout"`
	Stderr []byte `json:"stderr"`
	Error  string `json:"error"`
}
