package hub_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dunlin/hub"
	"dunlin/hub/api"
	"dunlin/hub/rollout"
	"dunlin/internal/freeport"
	"dunlin/internal/sign"
	"dunlin/sync/wire"
)

var kills = flag.Int("kills", 8, "how often TestKill9 kills the hub")

// childEnv makes this test binary be a hub: "DIR HTTPADDR MQTTADDR RELEASEKEY".
const childEnv = "DUNLIN_TEST_HUB"

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := beHub(strings.Fields(text)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beHub(arg []string) error {
	key, err := sign.ParsePublic(arg[3])
	if err != nil {
		return err
	}
	h, err := hub.Open(hub.Options{
		Dir: arg[0], HTTPAddr: arg[1], MQTTAddr: arg[2], ReleaseKeys: sign.Trust{key}, Retry: 100 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	return h.Run(context.Background())
}

// victim is a hub in a process of its own.
type victim struct {
	*site
	args string
	cmd  *exec.Cmd
}

// start runs the hub; fault is the value of hub.FaultEnv.
func (v *victim) start(fault string) {
	v.t.Helper()
	v.cmd = exec.Command(os.Args[0])
	v.cmd.Env = append(os.Environ(), childEnv+"="+v.args, hub.FaultEnv+"="+fault)
	v.cmd.Stderr = v.t.Output()
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
}

// kill sends SIGKILL and waits for the end.
func (v *victim) kill() {
	_ = v.cmd.Process.Kill() // it may have killed itself
	_ = v.cmd.Wait()         // "signal: killed"
}

// up waits until the hub answers.
func (v *victim) up() {
	v.t.Helper()
	eventually(v.t, "the hub answers", func() bool {
		resp, err := http.Get(v.url + "/livez")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	data, err := os.ReadFile(filepath.Join(strings.Fields(v.args)[0], hub.AdminTokenFile))
	if err != nil {
		v.t.Fatal(err)
	}
	v.admin = strings.TrimSpace(string(data))
}

// TestKill9 kills the hub again and again, at random moments and between a
// commit and its acknowledgement, while two devices send results, a rollout
// goes on, commands wait and devices are enrolled. Nothing that was accepted
// may be lost or be there twice.
func TestKill9(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	v := &victim{site: &site{t: t}}
	httpAddr := freeport.Addr(t)
	v.args = strings.Join([]string{t.TempDir(), httpAddr, freeport.Addr(t), key.Public().String()}, " ")
	v.url = "http://" + httpAddr
	v.start("")
	t.Cleanup(func() { v.kill() })
	v.up()
	a, b := start(t, v.enrol("left"), t.TempDir()), start(t, v.enrol("right"), t.TempDir())
	v.push(1, key)
	a.accept()
	b.says(nil, func(c wire.Cmd) {
		send(b, wire.UpCmdAck, wire.CmdAck{ID: c.ID, Phase: wire.CmdDone}, wire.Encode[wire.CmdAck])
	})
	eventually(t, "both are online", func() bool { return v.online() == 2 })
	st := v.rollOut(api.RolloutRequest{Canary: []byte(`["acme/left"]`)})

	devices, commands := 2, []string(nil)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	for i := range *kills {
		a.put(40)
		b.put(40)
		commands = append(commands, v.command("acme/right", `{"name":"status","ttl_s":600}`))
		v.enrol(fmt.Sprintf("extra-%d", i))
		devices++
		fault := ""
		if i%2 == 0 {
			fault = "before-ack:1"
		} else {
			wait(t, time.Duration(r.IntN(200))*time.Millisecond)
		}
		v.kill()
		v.start(fault)
		if fault != "" {
			a.put(40)
			waitEnd(t, v) // it kills itself
			v.start("")
		}
		v.up()
	}
	eventually(t, "everything is acknowledged", func() bool { return a.drained() && b.drained() })
	checkOnce(t, v.rows(), a.count+b.count)
	if d := a.box.State().Dropped + b.box.State().Dropped; d != 0 {
		t.Errorf("%d records were dropped", d)
	}
	if n := len(v.devices()); n != devices {
		t.Errorf("%d devices, %d were enrolled", n, devices)
	}
	for _, id := range commands {
		if c := v.answerTo(id); c.Phase != wire.CmdDone {
			t.Errorf("command %+v", c)
		}
	}
	// A fetch that a kill broke off is tried again after a second.
	eventually(t, "the rollout is past its canary", func() bool {
		p := v.phase(st.ID)
		if p.Phase.Ended() && p.Phase != rollout.Done {
			t.Fatalf("the rollout is %s: %s", p.Phase, p.Why)
		}
		return p.Phase == rollout.All || p.Phase == rollout.Done
	})
	var sum api.Summary
	v.must("GET", "/v1/summary", nil, &sum)
	if sum.Results.Duplicates == 0 {
		t.Error("no record came twice, so no kill hit the moment before an acknowledgement")
	}
	t.Logf("%d results over %d kills, %d records came twice", a.count+b.count, *kills, sum.Results.Duplicates)
}

func (s *site) devices() []api.Device {
	s.t.Helper()
	var out struct{ Devices []api.Device }
	s.must("GET", "/v1/devices", nil, &out)
	return out.Devices
}

// wait lets a random time pass: the moment of the kill is what is tried.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

// waitEnd waits until the hub has ended by itself.
func waitEnd(t *testing.T, v *victim) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- v.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the hub did not reach its fault")
	}
}
