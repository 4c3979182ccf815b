package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dunlin/internal/durable"
	"dunlin/internal/qr"
	"dunlin/sync/wire"
)

// enrolFlags are those of fleet enrol.
type enrolFlags struct {
	hub           hubFlags
	json, renew   bool
	claim, qr     bool
	png           string
	ttl           time.Duration
	count         int
	tenant, named string // of the argument
}

func fleetEnrolCommand() *cobra.Command {
	var f enrolFlags
	c := &cobra.Command{
		Use:   "enrol [[TENANT/]DEVICE]",
		Short: "Make the line with which a device joins the fleet: a token, or a claim with its QR code",
		Long: `Enrol registers a device and prints one line, its token. Put it into the agent's
configuration (token = "…", or a file named by token_file). It holds the addresses of
the hub, the device's secret and the public keys that the device is to trust: keep it
like a password. A lost token is replaced with --renew: the old one is void then.

With --claim the line is short and good for one device and a short time (--ttl), and
fits a QR code (--qr on the terminal, --png to a file). The device turns it into its
token at its first contact with the hub, and removes it. A second device that tries it
is refused, and "dunlin fleet claims" says so. Without DEVICE the device is named after
its host or its board's serial number; --count makes the claim good for so many of them,
for cards that are written from one image.`,
		Example: `  dunlin fleet enrol shop/line-3 --token-file hub/admin.token > token.txt
  dunlin fleet enrol line-3 --qr
  dunlin fleet enrol --count 20 --ttl 720h --png claim.png`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f.claim = f.claim || f.qr || f.png != "" || c.Flags().Changed("ttl") || c.Flags().Changed("count")
			if err := f.parse(args); err != nil {
				return err
			}
			if f.claim {
				return f.makeClaim(c)
			}
			return f.makeToken(c)
		},
	}
	f.hub.register(c)
	l := c.Flags()
	l.BoolVar(&f.renew, "renew", false, "the device is enrolled: replace its token")
	l.BoolVar(&f.claim, "claim", false, "make a claim: short, good once, and for --ttl")
	l.BoolVar(&f.qr, "qr", false, "a claim, and its QR code on the terminal")
	l.StringVar(&f.png, "png", "", "a claim, and its QR code in this PNG file")
	l.DurationVar(&f.ttl, "ttl", time.Hour, "how long a claim is good, at most 2160h")
	l.IntVar(&f.count, "count", 1, "how many devices a claim without a name is good for, at most 1000")
	jsonFlag(c, &f.json)
	return c
}

func (f *enrolFlags) parse(args []string) error {
	if len(args) == 0 {
		if !f.claim {
			return usagef("a token is for one device: give its name, or --claim")
		}
		f.tenant = "default"
		return nil
	}
	tenant, name, slash := strings.Cut(args[0], "/")
	if f.claim && slash && name == "" { // "shop/": any device of the shop
		f.tenant = tenant
		if err := wire.CheckName("tenant", tenant); err != nil {
			return usageError{err}
		}
		return nil
	}
	d, _, err := devicePath(args[0])
	f.tenant, f.named = d.Tenant, d.Name
	return err
}

func (f *enrolFlags) makeToken(c *cobra.Command) error {
	api, err := f.hub.client()
	if err != nil {
		return err
	}
	var out struct {
		Token string `json:"token"`
	}
	d := wire.Device{Tenant: f.tenant, Name: f.named}
	path, body := "/v1/devices", any(map[string]string{"tenant": d.Tenant, "name": d.Name})
	if f.renew {
		path, body = devicePathOf(d)+"/token", nil
	}
	if err := api.do(c.Context(), "POST", path, body, &out); err != nil {
		return err
	}
	if f.json {
		return printJSON(c.OutOrStdout(), out)
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), out.Token)
	return err
}

// claimRow is what the hub's API says of a claim.
type claimRow struct {
	ID          string    `json:"id"`
	Tenant      string    `json:"tenant"`
	Name        string    `json:"name"`
	Count       int       `json:"count"`
	NotAfter    time.Time `json:"not_after"`
	Devices     []string  `json:"devices"`
	Refused     int       `json:"refused"`
	RefusedFrom string    `json:"refused_from"`
}

func (f *enrolFlags) makeClaim(c *cobra.Command) error {
	api, err := f.hub.client()
	if err != nil {
		return err
	}
	seconds := int(f.ttl / time.Second)
	if seconds < 1 {
		return usagef("--ttl %v: want a second at least", f.ttl)
	}
	var out struct {
		Claim claimRow `json:"claim"`
		Line  string   `json:"line"`
	}
	if err := api.do(c.Context(), "POST", "/v1/claims", map[string]any{
		"tenant": f.tenant, "name": f.named, "renew": f.renew, "ttl_s": seconds, "count": f.count,
	}, &out); err != nil {
		if e, ok := errors.AsType[*apiError](err); ok && e.Status == http.StatusConflict && strings.Contains(e.Advice, "--renew") {
			return withHint(err, "take another name, or let the claim replace its token: dunlin fleet enrol %s/%s --claim --renew", f.tenant, f.named)
		}
		return err
	}
	if err := f.draw(c, out.Line); err != nil {
		return err
	}
	if f.json {
		return printJSON(c.OutOrStdout(), out)
	}
	if _, err := fmt.Fprintln(c.OutOrStdout(), out.Line); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.ErrOrStderr(), "claim %s: good for %s until %s; give the line to the agent as its token, or: dunlin-agent install 'LINE'\n",
		out.Claim.ID, out.Claim.whom(), out.Claim.NotAfter.Local().Format(time.DateTime))
	if note := noteOf(out.Line); err == nil && note != "" {
		_, err = fmt.Fprintln(c.ErrOrStderr(), "note: "+note)
	}
	return err
}

// noteOf is what a person should know of the hub that a claim leads to, or "".
func noteOf(line string) string {
	c, err := wire.ParseClaim(line)
	if err != nil {
		return ""
	}
	u, err := url.Parse(c.HTTP)
	if err != nil {
		return ""
	}
	switch ip := net.ParseIP(u.Hostname()); {
	case ip.IsLoopback() || u.Hostname() == "localhost":
		return "a board cannot reach this hub, which is at " + c.HTTP + ": start it with dunlin hub --lan HOST"
	case u.Scheme == "http":
		return "this hub speaks without TLS: whoever listens on its network sees the token; start it with dunlin hub --lan HOST"
	}
	return ""
}

// draw shows the QR code where it is wanted.
func (f *enrolFlags) draw(c *cobra.Command, line string) error {
	if !f.qr && f.png == "" {
		return nil
	}
	code, err := qr.New(line)
	if err != nil {
		return err
	}
	if f.png != "" {
		data, err := code.PNG(8)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(f.png, data, 0o600); err != nil {
			return err
		}
	}
	if !f.qr {
		return nil
	}
	if f.json { // standard output is for a program then
		return code.Terminal(c.ErrOrStderr())
	}
	return code.Terminal(c.OutOrStdout())
}

// whom says who may use a claim.
func (r *claimRow) whom() string {
	switch {
	case r.Name != "":
		return r.Tenant + "/" + r.Name
	case r.Count == 1:
		return "one device of " + r.Tenant
	}
	return fmt.Sprintf("%d devices of %s", r.Count, r.Tenant)
}

// state says what became of a claim.
func (r *claimRow) state(now time.Time) string {
	switch {
	case len(r.Devices) >= r.Count:
		return "used"
	case now.After(r.NotAfter):
		return "ended"
	}
	return fmt.Sprintf("open, %v left", r.NotAfter.Sub(now).Round(time.Second))
}

func fleetClaimsCommand() *cobra.Command {
	var hub hubFlags
	var asJSON bool
	var revoke string
	c := &cobra.Command{
		Use:   "claims",
		Short: "List the claims: who used them, and who was refused; or revoke one",
		Long: `Claims lists what "dunlin fleet enrol --claim" made, until a week after it ended. REFUSED
counts tries of devices that were not meant to have it, with the address of the last one:
a claim that was copied. Revoking a claim ends no token: "dunlin fleet remove" does.`,
		Example: `  dunlin fleet claims
  dunlin fleet claims --revoke 1f0c5a6be2d93c11`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			api, err := hub.client()
			if err != nil {
				return err
			}
			if revoke != "" {
				if err := api.do(c.Context(), "DELETE", "/v1/claims/"+url.PathEscape(revoke), nil, nil); err != nil {
					return withHint(err, "dunlin fleet claims lists them")
				}
				_, err := fmt.Fprintf(c.OutOrStdout(), "claim %s is revoked\n", revoke)
				return err
			}
			if asJSON {
				return passThrough(c, api, "GET", "/v1/claims", nil)
			}
			var out struct {
				Claims []claimRow `json:"claims"`
			}
			if err := api.do(c.Context(), "GET", "/v1/claims", nil, &out); err != nil {
				return err
			}
			rows, now := [][]string{{"CLAIM", "FOR", "STATE", "USED BY", "REFUSED"}}, time.Now()
			for _, r := range out.Claims {
				refused := "-"
				if r.Refused > 0 {
					refused = fmt.Sprintf("%d, from %s", r.Refused, r.RefusedFrom)
				}
				rows = append(rows, []string{r.ID, r.whom(), r.state(now), cmp.Or(strings.Join(r.Devices, " "), "-"), refused})
			}
			table(c.OutOrStdout(), rows)
			return nil
		},
	}
	hub.register(c)
	c.Flags().StringVar(&revoke, "revoke", "", "end the claim with this ID")
	jsonFlag(c, &asJSON)
	return c
}
