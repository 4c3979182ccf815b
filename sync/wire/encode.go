package wire

import (
	"bytes"
	"encoding/json"
)

// form is what Encode and Decode know of a message: where its "t" stands,
// what it must say, and how many bytes the message may have.
type form struct {
	t     *string
	name  string
	limit int
}

// message is implemented by the pointers to the small messages.
type message interface{ form() form }

func (m *Hello) form() form    { return form{&m.T, "hello", 8 << 10} }
func (m *Status) form() form   { return form{&m.T, "status", 512} }
func (m *Reported) form() form { return form{&m.T, "reported", 16 << 10} }
func (m *Metric) form() form   { return form{&m.T, "metric", 8 << 10} }
func (m *CmdAck) form() form   { return form{&m.T, "cmdack", 128 << 10} }
func (m *Desired) form() form  { return form{&m.T, "desired", 16 << 10} }
func (m *Cmd) form() form      { return form{&m.T, "cmd", MaxCmd} }
func (m *Ack) form() form      { return form{&m.T, "ack", 512} }

// pointer is the type *M, where that is a message.
type pointer[M any] interface {
	*M
	message
}

// Encode returns the JSON of one of the small messages: Hello, Status,
// Reported, Metric, CmdAck, Desired, Cmd, Ack. It sets T. A message beyond its
// bound is an error that wraps ErrTooLarge.
func Encode[M any, P pointer[M]](m M) ([]byte, error) {
	f := P(&m).form()
	*f.t = f.name
	data, err := marshal(m)
	if err != nil {
		return nil, malformed(f.name, "%v", err)
	}
	if len(data) > f.limit {
		return nil, tooLarge(f.name, len(data), f.limit)
	}
	return data, nil
}

// Decode is the inverse of Encode: Decode[wire.Hello](payload). Fields it does
// not know are ignored; another "t" than M's is an error. Errors wrap
// ErrTooLarge or ErrMalformed.
func Decode[M any, P pointer[M]](data []byte) (M, error) {
	var m M
	return m, decode(data, P(&m))
}

func decode(data []byte, m message) error {
	f := m.form()
	if len(data) > f.limit {
		return tooLarge(f.name, len(data), f.limit)
	}
	if err := json.Unmarshal(data, m); err != nil {
		return malformed(f.name, "%v", err)
	}
	if *f.t != f.name {
		return malformed(f.name, `"t" is %.40q`, *f.t)
	}
	return nil
}

// marshal is json.Marshal without the escapes for HTML: a RawMessage keeps
// its bytes, which may be signed, and "<" stays one byte.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
