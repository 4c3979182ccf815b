package wire

import (
	"encoding/json"
	"fmt"

	"dunlin/internal/sign"
)

// SignPurpose is what the hub's key signs documents for a device for.
const SignPurpose = "dunlin.message"

// SignedText returns what is signed for a document that the hub sends to one
// device on one topic:
//
//	Version "\n" tenant "/" device "\n" kind "\n" doc
//
// None of the first three can hold a line break, so two different messages
// never have the same text, and a document for one device or topic is not
// good for another.
func SignedText(d Device, k Kind, doc []byte) []byte {
	head := Version + "\n" + d.String() + "\n" + string(k) + "\n"
	return append([]byte(head), doc...)
}

// Seal encodes m (Encode) and signs it for one device and kind. The result is
// the payload to publish on Topic(d, k).
func Seal[M any, P pointer[M]](key sign.PrivateKey, d Device, k Kind, m M) ([]byte, error) {
	doc, err := Encode[M, P](m)
	if err != nil {
		return nil, err
	}
	data, err := marshal(Signed{Doc: doc, Sig: key.Sign(SignPurpose, SignedText(d, k, doc))})
	if err != nil {
		return nil, malformed(string(k), "%v", err)
	}
	return data, nil
}

// Unseal is the inverse of Seal: it checks that a key of trust signed the
// document for this device and kind, and only then reads it into m, a
// *Desired or *Cmd. Errors wrap sign.ErrUnknownKey, sign.ErrBadSignature,
// ErrTooLarge or ErrMalformed; m is then of no use.
func Unseal[M any, P pointer[M]](trust sign.Trust, d Device, k Kind, payload []byte, m P) error {
	f := m.form()
	if limit := f.limit + maxSigned; len(payload) > limit {
		return tooLarge(f.name, len(payload), limit)
	}
	var s Signed
	if err := json.Unmarshal(payload, &s); err != nil {
		return malformed(f.name, "%v", err)
	}
	if err := trust.Verify(SignPurpose, SignedText(d, k, s.Doc), s.Sig); err != nil {
		return fmt.Errorf("%s for %s: %w", f.name, d, err)
	}
	return decode(s.Doc, m)
}
