package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Who may come in is asked over NATS itself ("auth callout"), because only
// there the MQTT client id is known: the server's in-process hook for custom
// authentication does not show it, and a device that could choose another's
// client id would throw that one off.
//
//	MQTT CONNECT --> server --$SYS.REQ.USER.AUTH--> callout.answer
//	                   ^                               | Options.Auth
//	                   +------ signed user claims -----+
//
// The keys of both ends are made at each start and live in memory only.
const (
	accountDevices = "DEVICES"
	accountSystem  = "SYS"
)

type callout struct {
	broker       *Broker
	key, userKey nkeys.KeyPair // sign the claims, and the connection that answers
	issuer, user string        // their public halves
}

func newCallout(b *Broker) (*callout, error) {
	c := &callout{broker: b}
	var err error
	if c.key, err = nkeys.CreateAccount(); err != nil {
		return nil, err
	}
	if c.userKey, err = nkeys.CreateUser(); err != nil {
		return nil, err
	}
	if c.issuer, err = c.key.PublicKey(); err != nil {
		return nil, err
	}
	c.user, err = c.userKey.PublicKey()
	return c, err
}

// serve connects to the server in memory and answers until the connection is
// closed.
func (c *callout) serve(s *server.Server) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.Nkey(c.user, c.userKey.Sign), nats.Name("authentication"), nats.Timeout(readyTimeout))
	if err != nil {
		return nil, err
	}
	if _, err := nc.Subscribe(server.AuthCalloutSubject, c.answer); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nc.Flush()
}

func (c *callout) answer(m *nats.Msg) {
	req, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
	if err != nil {
		c.broker.o.Log.Warn("authentication request is not readable", slog.Any("error", err))
		return
	}
	resp := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	resp.Audience = req.Server.ID
	if resp.Jwt, err = c.admit(req); err != nil {
		resp.Error = "not authorized"
		c.broker.o.Log.Warn("connection refused", slog.String("user", clip(req.ConnectOptions.Username)),
			slog.String("client_id", clip(req.ClientInformation.MQTT)), slog.String("remote", req.ClientInformation.Host), slog.Any("error", err))
	}
	data, err := resp.Encode(c.key)
	if err != nil {
		c.broker.o.Log.Error("authentication answer cannot be signed", slog.Any("error", err))
		return
	}
	if err := m.Respond([]byte(data)); err != nil {
		c.broker.o.Log.Warn("authentication answer was not sent", slog.Any("error", err))
	}
}

// clip bounds text of a peer that is not known yet.
func clip(s string) string { return s[:min(len(s), 80)] }

// admit returns the signed claims of the user that asks to come in.
func (c *callout) admit(req *jwt.AuthorizationRequestClaims) (string, error) {
	o, info := req.ConnectOptions, req.ClientInformation
	if info.Type != "mqtt" {
		return "", fmt.Errorf("a %s client", info.Type)
	}
	if info.MQTT != o.Username {
		return "", errors.New("its client id is not its user name")
	}
	u := jwt.NewUserClaims(req.UserNkey)
	u.Name, u.Audience = o.Username, accountDevices
	if o.Username == HubUser {
		if !equal(o.Password, c.broker.password) {
			return "", errors.New("wrong password for the hub's own user")
		}
		return u.Encode(c.key)
	}
	p, err := c.broker.o.Auth(o.Username, o.Password, info.MQTT)
	if err != nil {
		return "", err
	}
	if u.Pub.Allow, err = subjects(p.Publish); err != nil {
		return "", err
	}
	if u.Sub.Allow, err = subjects(p.Subscribe); err != nil {
		return "", err
	}
	return u.Encode(c.key)
}

// subjects turns MQTT filters into NATS subjects. An empty list would allow
// everything, so it becomes one that nobody publishes to.
func subjects(filters []string) (jwt.StringList, error) {
	if len(filters) == 0 {
		return jwt.StringList{"dunlin-nothing"}, nil
	}
	var out jwt.StringList
	for _, f := range filters {
		if f == "" || strings.ContainsAny(f, ".#*> \t\r\n") {
			return nil, fmt.Errorf("topic filter %q", f)
		}
		out = append(out, strings.ReplaceAll(strings.ReplaceAll(f, "/", "."), "+", "*"))
	}
	return out, nil
}
