//go:build linux

package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// agentAddress is the agent's local HTTP, which nobody outside the board can
// reach.
const agentAddress = "http://127.0.0.1:8790"

// serve answers what comes by l:
//
//	GET    /vm                 State
//	any    /agent/...          what the agent answers to /...
//	POST   /infer              pictures, a list of base64 -> the agent's answers, asked for all at once
//	POST   /run                Command -> Output, in Root
//	GET    /file?path=P        a file below Root; PUT writes it, whole or not at all; DELETE removes it
//	GET    /list?path=P        the names in a folder below Root
//	POST   /signal?number=N    to the service
//	POST   /service?on=true    or false: stop it in order, and leave it off
//	POST   /clock?unix=S       set the board's clock
//	POST   /sync               write to the disk what waits for it
//	POST   /power              turn the board off, in order
func (b *board) serve(l net.Listener, s *supervisor) error {
	agent, err := url.Parse(agentAddress)
	if err != nil {
		return err
	}
	m := http.NewServeMux()
	m.Handle("/agent/", http.StripPrefix("/agent", &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(agent) },
	}))
	m.HandleFunc("GET /vm", func(w http.ResponseWriter, _ *http.Request) { answer(w, b.state(s), nil) })
	m.HandleFunc("POST /infer", func(w http.ResponseWriter, r *http.Request) {
		var pictures [][]byte
		if err := json.NewDecoder(r.Body).Decode(&pictures); err != nil {
			answer(w, nil, fmt.Errorf("pictures: %w", err))
			return
		}
		answers, err := inferAll(r.Context(), pictures)
		answer(w, answers, err)
	})
	m.HandleFunc("POST /run", func(w http.ResponseWriter, r *http.Request) {
		var c Command
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil || len(c.Exec) == 0 {
			answer(w, nil, fmt.Errorf("command: %w", err))
			return
		}
		answer(w, runIn(r, c), nil)
	})
	m.HandleFunc("/file", file)
	m.HandleFunc("GET /list", func(w http.ResponseWriter, r *http.Request) {
		names := []string{}
		all, err := os.ReadDir(below(r))
		for _, e := range all {
			names = append(names, e.Name())
		}
		answer(w, names, err)
	})
	m.HandleFunc("POST /signal", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("number"))
		answer(w, nil, errors.Join(err, s.signal(syscall.Signal(n))))
	})
	m.HandleFunc("POST /service", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("on") == "true" {
			s.set(false)
		} else {
			s.stop()
		}
		answer(w, nil, nil)
	})
	m.HandleFunc("POST /clock", func(w http.ResponseWriter, r *http.Request) {
		sec, err := strconv.ParseInt(r.FormValue("unix"), 10, 64)
		tv := unix.NsecToTimeval(sec * int64(time.Second))
		answer(w, nil, errors.Join(err, unix.Settimeofday(&tv)))
	})
	m.HandleFunc("POST /sync", func(w http.ResponseWriter, _ *http.Request) {
		unix.Sync() // waits for the disk, on Linux
		answer(w, nil, nil)
	})
	m.HandleFunc("POST /power", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, nil, nil)
		go b.powerOff(s)
	})
	return http.Serve(l, m)
}

// inferAll asks the agent about all pictures at once, which as many callers
// from outside could not: QEMU's network takes few connections at a time.
func inferAll(ctx context.Context, pictures [][]byte) ([]json.RawMessage, error) {
	answers, errs := make([]json.RawMessage, len(pictures)), make([]error, len(pictures))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var all sync.WaitGroup
	for i, p := range pictures {
		all.Go(func() { answers[i], errs[i] = inferOne(ctx, &client, p) })
	}
	all.Wait()
	return answers, errors.Join(errs...)
}

func inferOne(ctx context.Context, client *http.Client, picture []byte) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, agentAddress+"/v1/infer", bytes.NewReader(picture))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("infer: %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return text, err
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // whoever asked is gone
}

func (b *board) state(s *supervisor) State {
	s.mu.Lock()
	st := s.state
	s.mu.Unlock()
	b.mu.Lock()
	st.Troubles = slices.Clone(b.troubles)
	b.mu.Unlock()
	st.UptimeMS = uptime().Milliseconds()
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		st.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return st
}

// runIn runs a command in Root and waits for it.
func runIn(r *http.Request, c Command) Output {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(r.Context(), c.Exec[0], c.Exec[1:]...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: Root}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), &stdout, &stderr
	out := Output{Exit: -1}
	if err := cmd.Run(); err != nil {
		out.Error = err.Error()
	}
	if cmd.ProcessState != nil {
		out.Exit = cmd.ProcessState.ExitCode()
	}
	out.Stdout, out.Stderr = stdout.Bytes(), stderr.Bytes()
	return out
}

// below is the path that a request names, in Root.
func below(r *http.Request) string {
	return filepath.Join(Root, filepath.Clean("/"+r.FormValue("path")))
}

func file(w http.ResponseWriter, r *http.Request) {
	path := below(r)
	switch r.Method {
	case http.MethodGet:
		data, err := os.ReadFile(path) // the size that a kernel's file tells is none
		if err != nil {
			answer(w, nil, err)
			return
		}
		_, _ = w.Write(data) // whoever asked is gone
	case http.MethodPut:
		answer(w, nil, write(path, r.Body))
	case http.MethodDelete:
		answer(w, nil, os.RemoveAll(path))
	default:
		http.Error(w, "GET, PUT or DELETE", http.StatusMethodNotAllowed)
	}
}

// write makes a file as a careful program does, so that a watched folder sees
// it whole.
func write(path string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".put-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // err says what there is to say
	}
	return err
}
