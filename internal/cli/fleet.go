package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dunlin/internal/release"
	"dunlin/sync/wire"
)

func fleetCommand() *cobra.Command {
	return group("fleet", "Enrol devices, see how they are, send commands, roll out models",
		fleetEnrolCommand(), fleetClaimsCommand(), fleetRemoveCommand(), fleetListCommand(), fleetShowCommand(), fleetCommandCommand(), fleetRolloutCommand())
}

// devicePath returns the API path of a device given as NAME or TENANT/NAME.
func devicePath(arg string) (wire.Device, string, error) {
	if !strings.Contains(arg, "/") {
		arg = "default/" + arg
	}
	d, err := wire.ParseDevice(arg)
	if err != nil {
		return d, "", usageError{err}
	}
	return d, devicePathOf(d), nil
}

func devicePathOf(d wire.Device) string { return "/v1/devices/" + d.Tenant + "/" + d.Name }

func fleetRemoveCommand() *cobra.Command {
	var hub hubFlags
	c := &cobra.Command{
		Use:     "remove [TENANT/]DEVICE",
		Short:   "Forget a device: its token is void, its results stay",
		Example: `  dunlin fleet remove shop/line-3`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d, path, err := devicePath(args[0])
			if err != nil {
				return err
			}
			api, err := hub.client()
			if err != nil {
				return err
			}
			if err := api.do(c.Context(), "DELETE", path, nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is forgotten\n", d)
			return err
		},
	}
	hub.register(c)
	return c
}

// deviceRow is what the hub's API says of a device.
type deviceRow struct {
	Tenant   string         `json:"tenant"`
	Name     string         `json:"name"`
	Online   bool           `json:"online"`
	LastSeen time.Time      `json:"last_seen"`
	Gen      int64          `json:"gen"`
	Hello    *wire.Hello    `json:"hello"`
	Reported *wire.Reported `json:"reported"`
}

func fleetListCommand() *cobra.Command {
	var hub hubFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the devices: online, agent, model, facts, what waits",
		Example: `  dunlin fleet list --token-file hub/admin.token`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := hub.client()
			if err != nil {
				return err
			}
			if asJSON {
				return passThrough(c, api, "GET", "/v1/devices", nil)
			}
			var out struct {
				Devices []deviceRow `json:"devices"`
			}
			if err := api.do(c.Context(), "GET", "/v1/devices", nil, &out); err != nil {
				return err
			}
			rows := [][]string{{"DEVICE", "STATE", "SEEN", "AGENT", "MODEL", "FACTS", "WAITING"}}
			for _, d := range out.Devices {
				rows = append(rows, d.row())
			}
			table(c.OutOrStdout(), rows)
			return nil
		},
	}
	hub.register(c)
	jsonFlag(c, &asJSON)
	return c
}

func (d *deviceRow) row() []string {
	state, seen, agent, running, known, waiting := "offline", "never", "-", "-", "-", "-"
	if d.Online {
		state = "online"
	}
	if r := d.Reported; r != nil && r.Throttle != nil {
		state += ", " + throttled(r.Throttle)
	}
	if !d.LastSeen.IsZero() {
		seen = time.Since(d.LastSeen).Round(time.Second).String() + " ago"
	}
	if r := d.Reported; r != nil {
		if r.Model != nil {
			running = fmt.Sprintf("%s@%d", r.Model.Name, r.Model.Version)
		}
		if r.Facts != nil {
			known = fmt.Sprintf("%s@%d", r.Facts.Graph, r.Facts.Version)
		}
	}
	if d.Hello != nil {
		waiting, agent = fmt.Sprint(d.Hello.Outbox.Next-d.Hello.Outbox.First), d.Hello.Agent
	}
	return []string{d.Tenant + "/" + d.Name, state, seen, agent, running, known, waiting}
}

// throttled says in a few words how a device holds itself back; fleet show
// says why.
func throttled(t *wire.Throttle) string {
	what := fmt.Sprintf("throttled: frames at 1/%d", t.Frames)
	if t.TempC != 0 {
		what = fmt.Sprintf("throttled: %.0f °C, frames at 1/%d", t.TempC, t.Frames)
	}
	if t.Threads > 0 {
		what += fmt.Sprintf(", threads: %d", t.Threads)
	}
	if t.Small {
		what += ", small form"
	}
	return what
}

// passThrough prints the hub's JSON as it is.
func passThrough(c *cobra.Command, api *client, method, path string, body any) error {
	var out json.RawMessage
	if err := api.do(c.Context(), method, path, body, &out); err != nil {
		return err
	}
	return printJSON(c.OutOrStdout(), out)
}

func fleetShowCommand() *cobra.Command {
	var hub hubFlags
	c := &cobra.Command{
		Use:     "show [TENANT/]DEVICE",
		Short:   "Print everything the hub knows of a device, as JSON",
		Example: `  dunlin fleet show line-3 --token-file hub/admin.token`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			_, path, err := devicePath(args[0])
			if err != nil {
				return err
			}
			api, err := hub.client()
			if err != nil {
				return err
			}
			return passThrough(c, api, "GET", path, nil)
		},
	}
	hub.register(c)
	return c
}

func fleetCommandCommand() *cobra.Command {
	var (
		hub       hubFlags
		ttl, wait time.Duration
	)
	c := &cobra.Command{
		Use:   "command [TENANT/]DEVICE NAME [JSON|@FILE]",
		Short: "Send a command to a device and wait for its answer",
		Long: `Command sends one order. NAME is infer, activate, rollback, status or log-level; JSON
holds its arguments, @FILE a file that holds them; for infer, @FILE is the picture
itself. Status 1 says that the device rejected the order, or that it expired. The hub keeps sending it until the device has answered or --ttl
is over; the device obeys an id once, however often it arrives.`,
		Example: `  dunlin fleet command line-3 status
  dunlin fleet command line-3 infer @picture.jpg
  dunlin fleet command line-3 log-level '{"level":"debug"}' --ttl 1h --wait 0`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(c *cobra.Command, args []string) error {
			_, path, err := devicePath(args[0])
			if err != nil {
				return err
			}
			order := map[string]any{"name": args[1], "ttl_s": ttl.Seconds()}
			if len(args) == 3 {
				if order["args"], err = commandArgs(args[1], args[2]); err != nil {
					return err
				}
			}
			api, err := hub.client()
			if err != nil {
				return err
			}
			var sent struct {
				ID string `json:"id"`
			}
			if err := api.do(c.Context(), "POST", path+"/commands", order, &sent); err != nil {
				return err
			}
			var text json.RawMessage
			if err := api.do(c.Context(), "GET", fmt.Sprintf("/v1/commands/%s?wait=%d", url.PathEscape(sent.ID), int(wait.Seconds())), nil, &text); err != nil {
				return err
			}
			if err := printJSON(c.OutOrStdout(), text); err != nil {
				return err
			}
			var end wire.CmdAck
			if err := json.Unmarshal(text, &end); err != nil {
				return err
			}
			if end.Phase == wire.CmdRejected || end.Phase == wire.CmdExpired {
				return fmt.Errorf("command %s: %s %s", args[1], end.Phase, end.Error)
			}
			return nil
		},
	}
	hub.register(c)
	c.Flags().DurationVar(&ttl, "ttl", time.Minute, "when the order expires")
	c.Flags().DurationVar(&wait, "wait", 10*time.Second, "how long to wait for the answer, 0: not at all")
	return c
}

// commandArgs reads the arguments of a command: JSON, or @FILE.
func commandArgs(name, text string) (json.RawMessage, error) {
	file, isFile := strings.CutPrefix(text, "@")
	data := []byte(text)
	if isFile {
		var err error
		if data, err = os.ReadFile(file); err != nil {
			return nil, err
		}
		if name == string(wire.CmdInfer) {
			return json.Marshal(map[string][]byte{"input": data}) // base64
		}
	}
	if !json.Valid(data) {
		return nil, usagef("arguments %.80q are not JSON", data)
	}
	return data, nil
}

// rolloutRefused says in a person's words why the hub starts no rollout: a
// release of the agent has a number in its registry, which nobody gave.
func rolloutRefused(name, version string, err error) error {
	e, ok := errors.AsType[*apiError](err)
	switch {
	case !ok:
	case e.Status == http.StatusNotFound && name == release.Name:
		return withHint(fmt.Errorf("%s %s: no such release at the hub", name, version), "send it there first: dunlin agent push RELEASE")
	case e.Advice == "" && e.Status == http.StatusBadRequest && strings.Contains(e.Text, "the first wave needs a device"):
		return withHint(err, "enrol a device first, and see it in dunlin fleet list: dunlin fleet enrol NAME --claim")
	}
	return err
}

func fleetRolloutCommand() *cobra.Command {
	var (
		hub    hubFlags
		canary string
		act    string
		soak   int
		trial  int
	)
	c := &cobra.Command{
		Use:   "rollout [MODEL|dunlin-agent VERSION]",
		Short: "Give a model, or the agent, to a few devices, then to all; list, pause or abort rollouts",
		Long: `Rollout starts one: MODEL at VERSION goes to the canaries first, and to the others when
every canary has passed its trial. Any canary that refuses it or goes back takes the
whole rollout back. Without arguments it lists the rollouts. A release of the agent itself
(dunlin agent push) takes the same road, as dunlin-agent.`,
		Example: `  dunlin fleet rollout garments 2 --canary 1
  dunlin fleet rollout garments 2 --canary line-1,line-2
  dunlin fleet rollout dunlin-agent 0.2.0 --canary line-1
  dunlin fleet rollout                            # list
  dunlin fleet rollout --abort ID`,
		Args: cobra.MatchAll(cobra.MaximumNArgs(2), func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return fmt.Errorf("give MODEL and VERSION")
			}
			return nil
		}),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := hub.client()
			if err != nil {
				return err
			}
			if verb, id, ok := strings.Cut(act, ":"); ok {
				return passThrough(c, api, "POST", "/v1/rollouts/"+url.PathEscape(id)+"/"+verb, nil)
			}
			if len(args) == 0 {
				return passThrough(c, api, "GET", "/v1/rollouts", nil)
			}
			version, err := strconv.ParseInt(args[1], 10, 64)
			if args[0] == release.Name {
				version, err = release.Config{Version: args[1]}.Check()
			}
			if err != nil {
				return usagef("version %q: %w", args[1], err)
			}
			plan := map[string]any{
				"model": args[0], "version": version, "rules": map[string]int{"soak_s": soak}, "trial": wire.TrialRules{Seconds: trial},
			}
			if n, err := strconv.Atoi(canary); err == nil {
				plan["canary"] = n
			} else {
				plan["canary"] = strings.Split(canary, ",")
			}
			return rolloutRefused(args[0], args[1], passThrough(c, api, "POST", "/v1/rollouts", plan))
		},
	}
	hub.register(c)
	f := c.Flags()
	f.StringVar(&canary, "canary", "1", "how many devices go first, or their names, with commas")
	f.IntVar(&soak, "soak", 0, "seconds that a wave stays open at least")
	f.IntVar(&trial, "trial", 0, "seconds that a device keeps it on trial, 0: the agent's default")
	for _, verb := range []string{"pause", "resume", "abort"} {
		f.Func(verb, verb+" the rollout with this `ID`", func(id string) error { act = verb + ":" + id; return nil })
	}
	return c
}
