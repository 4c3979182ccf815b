package broker

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// equal compares secrets in a time that does not tell where they differ.
func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// natsLog writes the server's log lines as slog records. The server's notices
// are for people who run NATS itself, so they are debug lines here, and what
// it calls an error is mostly a client that was refused or went away.
type natsLog struct {
	log   *slog.Logger
	fatal chan string
}

const (
	msgServer = "broker"
	keyText   = "text"
)

func (l *natsLog) line(format string, args []any) slog.Attr {
	return slog.String(keyText, fmt.Sprintf(format, args...))
}

func (l *natsLog) Noticef(format string, v ...any) { l.log.Debug(msgServer, l.line(format, v)) }
func (l *natsLog) Warnf(format string, v ...any)   { l.log.Warn(msgServer, l.line(format, v)) }
func (l *natsLog) Errorf(format string, v ...any)  { l.log.Warn(msgServer, l.line(format, v)) }
func (l *natsLog) Debugf(format string, v ...any)  { l.log.Debug(msgServer, l.line(format, v)) }
func (l *natsLog) Tracef(format string, v ...any)  { l.log.Debug(msgServer, l.line(format, v)) }

// Fatalf notes why the server cannot run; unlike the server's own logger it
// does not end the process.
func (l *natsLog) Fatalf(format string, v ...any) {
	l.log.Error(msgServer, l.line(format, v))
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
