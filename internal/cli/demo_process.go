package cli

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a child of the demo: the hub or an agent, its output in a log.
type process struct {
	cmd  *exec.Cmd
	args []string
	log  string
	done chan error // receives once, when it ends
}

// startProcess runs args with its output appended to log.
func startProcess(log string, args ...string) (*process, error) {
	p := &process{args: args, log: log}
	return p, p.start()
}

func (p *process) start() error {
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close() // the child has its own copy
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.args[0], err)
	}
	done := make(chan error, 1)
	p.done = done
	go func(cmd *exec.Cmd) { done <- cmd.Wait() }(p.cmd)
	return nil
}

// kill ends the process as a power cut would: it gets no chance to say so.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.done
	return nil
}

// stop asks the process to end, and kills it where it does not.
func (p *process) stop() {
	if p == nil || p.cmd == nil || p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may just have ended
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// ended returns an error with the end of the log where the process is no
// longer there.
func (p *process) ended() error {
	select {
	case err := <-p.done:
		p.done <- err
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s ended: %v: %s", filepath.Base(p.args[0]), err, text[max(0, len(text)-600):])
	default:
		return nil
	}
}

// freeAddress returns a loopback address on which nobody listens now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// programs returns the paths of this program and of the agent, which stands
// beside it or on the path.
func programs() (dunlin, agent string, err error) {
	if dunlin, err = os.Executable(); err != nil {
		return "", "", err
	}
	agent = filepath.Join(filepath.Dir(dunlin), "dunlin-agent")
	if _, err := os.Stat(agent); err != nil {
		if agent, err = exec.LookPath("dunlin-agent"); err != nil {
			return "", "", withHint(fmt.Errorf("the demo runs dunlin-agent: %w", err), "put dunlin-agent beside dunlin: go build -o bin/ ./cmd/...")
		}
	}
	return dunlin, agent, nil
}
