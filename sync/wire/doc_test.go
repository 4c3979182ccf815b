package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// examples returns the fenced blocks of docs/WIRE.md that have a name:
// "```json hello" is "json hello".
func examples(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/WIRE.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for i, block := range strings.Split(string(page), "```") {
		name, text, _ := strings.Cut(block, "\n")
		if i%2 == 0 || !strings.Contains(name, " ") {
			continue
		}
		if _, twice := found[name]; twice {
			t.Errorf("WIRE.md has two examples %q", name)
		}
		found[name] = strings.TrimRight(text, "\n")
	}
	return found
}

// strict reads text into v, which has a field for all that text has, and
// checks that v is written as text again.
func strict(t *testing.T, name, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	again, err := marshal(v)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if string(again) != text {
		t.Errorf("%s is written again as\n%s\nthe page has\n%s", name, again, text)
	}
}

// small checks an example of one of the small messages, through Decode and
// Encode too.
func small[M any, P pointer[M]](t *testing.T, name, text string) {
	t.Helper()
	strict(t, name, text, new(M))
	m, err := Decode[M, P]([]byte(text))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if again, err := Encode[M, P](m); err != nil || string(again) != text {
		t.Errorf("%s: Encode gives %s, %v", name, again, err)
	}
}

func TestExamplesOfThePage(t *testing.T) {
	page := examples(t)
	checks := map[string]func(name, text string){
		"json hello":    func(n, s string) { small[Hello](t, n, s) },
		"json status":   func(n, s string) { small[Status](t, n, s) },
		"json reported": func(n, s string) { small[Reported](t, n, s) },
		"json metric":   func(n, s string) { small[Metric](t, n, s) },
		"json cmdack":   func(n, s string) { small[CmdAck](t, n, s) },
		"json desired":  func(n, s string) { small[Desired](t, n, s) },
		"json cmd":      func(n, s string) { small[Cmd](t, n, s) },
		"json ack":      func(n, s string) { small[Ack](t, n, s) },
		"json signed":   func(n, s string) { strict(t, n, s, new(Signed)) },
		"json token":    func(n, s string) { tokenExample(t, s) },
		"json batch":    func(n, s string) { batchExample(t, s) },
		"text claim": func(n, s string) {
			c, err := ParseClaim(s)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := c.Encode(); err != nil || again != s {
				t.Errorf("claim is written again as %s, %v", again, err)
			}
			if want := page["json claim-request"]; !strings.Contains(want, hex.EncodeToString(c.Secret[:])) {
				t.Errorf("the request is not for the claim: its secret is %x", c.Secret)
			}
		},
		"json claim-request": func(n, s string) { strict(t, n, s, new(ClaimRequest)) },
		"json claim-answer":  func(n, s string) { strict(t, n, s, new(ClaimAnswer)) },
		"text signed": func(n, s string) {
			want := string(SignedText(Device{"acme", "pi-7"}, DownCmd, []byte(page["json cmd"])))
			if got := strings.ReplaceAll(s, "⏎", "\n"); got != want {
				t.Errorf("signed text is %q, the page has %q", want, got)
			}
		},
	}
	for name, check := range checks {
		text, ok := page[name]
		if !ok {
			t.Errorf("WIRE.md has no example %q", name)
			continue
		}
		check(name, text)
	}
	for name := range page {
		if checks[name] == nil {
			t.Errorf("WIRE.md has an example %q that no test reads", name)
		}
	}
}

// TestPageNamesEveryTopic keeps the table complete.
func TestPageNamesEveryTopic(t *testing.T) {
	page, err := os.ReadFile("../../docs/WIRE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(append([]Kind{}, UpKinds...), DownKinds...) {
		if !bytes.Contains(page, []byte("| `"+k+"` |")) {
			t.Errorf("WIRE.md's table has no row for %s", k)
		}
	}
	for _, r := range []Reason{
		ReasonDigest, ReasonUnknownKey, ReasonSignature, ReasonExam, ReasonOlder, ReasonUnsupported, ReasonBroken,
		ReasonTooSlow, ReasonErrors, ReasonCrashed, ReasonNoSpace, ReasonFetch, ReasonWrongBase, ReasonCommand, ReasonDesired,
		ReasonNoHub, ReasonPlatform, ReasonTooOld, ReasonDisabled,
	} {
		if !bytes.Contains(page, []byte("`"+r+"`")) {
			t.Errorf("WIRE.md does not name the reason %s", r)
		}
	}
}

func tokenExample(t *testing.T, text string) {
	strict(t, "token", text, new(Token))
	var want Token
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Error(err)
		return
	}
	line, err := want.Encode()
	if err != nil {
		t.Error(err)
		return
	}
	if got, err := ParseToken(line); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("token is read again as %#v, %v", got, err)
	}
}

func batchExample(t *testing.T, text string) {
	lines := strings.Split(text, "\n")
	var b Batch
	strict(t, "batch, first line", lines[0], &b)
	var records []Record
	for _, line := range lines[1:] {
		var r Record
		strict(t, "batch, record line", line, &r)
		switch r.Kind {
		case RecordResult:
			strict(t, "result", string(r.Body), new(Result))
		case RecordReport:
			strict(t, "report", string(r.Body), new(Report))
		case RecordGap:
			strict(t, "gap", string(r.Body), new(Gap))
		default:
			t.Errorf("batch: kind %q", r.Kind)
		}
		records = append(records, r)
	}
	data, err := EncodeBatch(b.Epoch, records)
	if err != nil {
		t.Error(err)
		return
	}
	if got := string(gunzip(t, data)); got != text+"\n" {
		t.Errorf("batch is written as\n%s", got)
	}
	gotBatch, gotRecords, err := DecodeBatch(data)
	if err != nil || gotBatch != b || !reflect.DeepEqual(gotRecords, records) {
		t.Errorf("batch is read again as %+v, %+v, %v", gotBatch, gotRecords, err)
	}
}
