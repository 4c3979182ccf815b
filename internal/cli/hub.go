package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"dunlin/hub"
	"dunlin/hub/page"
	"dunlin/internal/sign"
)

func hubCommand() *cobra.Command {
	var (
		o     hub.Options
		keys  []string
		level string

		brokerPassword, lan string
	)
	c := &cobra.Command{
		Use:   "hub",
		Short: "Run the hub: broker, registry, facts, results and the page",
		Long: `Hub runs until it is stopped. Everything it knows is below --dir: models, facts,
results, devices, its own key (hub.key) and the token for its HTTP API and page
(admin.token). Killing it at any moment loses nothing that it had acknowledged.

It listens on loopback. For devices, --lan HOST listens on every address, and makes a
certificate for HOST, the name or address by which they reach this machine; they are
told of it when they are enrolled. With a certificate of your own give --tls-cert and
--tls-key, and the addresses one by one.

Without --release-key it makes a key pair for signing models, release.key and
release.pub, at its first start: move release.key to the machine that signs.`,
		Example: `  dunlin hub --release-key release.pem.pub
  dunlin hub --lan 192.168.1.10
  dunlin hub --dir /var/lib/dunlin-hub --http 0.0.0.0:7070 --mqtt 0.0.0.0:8883 \
      --tls-cert hub.crt --tls-key hub.pem --release-key release.pem.pub`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return usagef("--log-level %q: want debug, info, warn or error", level)
			}
			o.Log = slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: l}))
			for _, file := range keys {
				k, err := sign.ReadPublic(file)
				if err != nil {
					return err
				}
				o.ReleaseKeys = append(o.ReleaseKeys, k)
			}
			if brokerPassword != "" {
				text, err := os.ReadFile(brokerPassword)
				if err != nil {
					return err
				}
				o.BrokerPassword = strings.TrimSpace(string(text))
			}
			if lan != "" {
				if err := onLAN(&o, lan, c.Flags().Changed); err != nil {
					return err
				}
			}
			o.Page, o.Version = page.Handler(), buildVersion().Version
			h, err := hub.Open(o)
			if err != nil {
				return err
			}
			go func() {
				select {
				case <-h.Ready():
					fmt.Fprintf(c.OutOrStdout(), "page: %s/  (its token: %s)\nMQTT: %s\n", h.HTTPURL(), filepath.Join(o.Dir, "admin.token"), h.MQTTURL())
					if lan != "" && o.CertFile == "" {
						fmt.Fprintf(c.OutOrStdout(), "other commands here: export DUNLIN_HUB=%s SSL_CERT_FILE=%s\n", h.HTTPURL(), filepath.Join(o.Dir, hub.OwnCertFile))
					}
				case <-c.Context().Done():
				}
			}()
			err = h.Run(c.Context())
			if errors.Is(err, syscall.EADDRINUSE) {
				return withHint(err, "another program listens there, perhaps another hub: choose --http and --mqtt addresses")
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "dir", "dunlin-hub", "folder for all that the hub keeps")
	f.StringVar(&o.HTTPAddr, "http", "127.0.0.1:7070", "address of the HTTP API and the page")
	f.StringVar(&o.MQTTAddr, "mqtt", "127.0.0.1:1883", "address of the MQTT listener")
	f.StringVar(&o.PublicHTTP, "public-http", "", "URL under which devices reach the API, where it is another")
	f.StringVar(&o.PublicMQTT, "public-mqtt", "", "URL under which devices reach the MQTT listener, where it is another")
	f.StringVar(&lan, "lan", "", "be there for the network, with TLS, under this name or address of the machine (HTTP 7070, MQTT 8883)")
	f.StringVar(&o.CertFile, "tls-cert", "", "certificate (PEM) of both listeners")
	f.StringVar(&o.KeyFile, "tls-key", "", "its key (PEM)")
	f.StringVar(&o.CAFile, "tls-ca", "", "certificate (PEM) of the authority, for devices that do not know it")
	f.StringVar(&o.BrokerURL, "broker", "", "use this MQTT broker in place of the embedded one")
	f.StringVar(&o.BrokerUser, "broker-user", "", "user name at that broker")
	f.StringVar(&brokerPassword, "broker-password-file", "", "file that holds the password at that broker")
	f.DurationVar(&o.Results.MaxAge, "keep-results", 0, "drop results that are older, 0: keep all")
	f.StringArrayVar(&keys, "release-key", nil, "public key file (PEM) that may sign models; may be repeated")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return c
}

// onLAN has the hub listen for the whole network, under the name or address
// host, with a certificate of its own where none was given. given tells which
// flags were.
func onLAN(o *hub.Options, host string, given func(flag string) bool) error {
	if net.ParseIP(host) == nil && (len(host) > 253 || !regexp.MustCompile(hostName).MatchString(host)) {
		return usagef("--lan %q: want the name or the address by which devices reach this machine, without a port", host)
	}
	o.OwnHost = host
	for _, at := range []struct {
		flag, public, scheme, port string
		listen, url                *string
	}{
		{"http", "public-http", "https", "7070", &o.HTTPAddr, &o.PublicHTTP},
		{"mqtt", "public-mqtt", "tls", "8883", &o.MQTTAddr, &o.PublicMQTT},
	} {
		if !given(at.flag) {
			*at.listen = net.JoinHostPort("", at.port)
		}
		_, port, err := net.SplitHostPort(*at.listen)
		if err != nil {
			return usagef("--%s: %v", at.flag, err)
		}
		if !given(at.public) {
			*at.url = at.scheme + "://" + net.JoinHostPort(host, port)
		}
	}
	return nil
}

const hostName = `^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`
