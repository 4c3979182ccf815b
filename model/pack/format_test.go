package pack

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dunlin/internal/oci"
	"dunlin/internal/sign"
	"dunlin/model"
)

var update = flag.Bool("update", false, "write the examples of docs/FORMAT.md anew")

const formatPage = "../../docs/FORMAT.md"

// halves is the pack of docs/FORMAT.md.
func halves() *Pack {
	g := model.New("halves")
	g.Inputs, g.Outputs = []string{"x"}, []string{"y"}
	g.Values["x"] = &model.Value{Type: model.F32, Shape: model.Shape{model.Unknown, 20}, Dims: []string{"N", ""}}
	w, in, out := make([]float32, 20), make([]float32, 20), make([]float32, 20)
	for i := range w {
		w[i], in[i], out[i] = 0.5, float32(i), float32(i)/2
	}
	g.AddConst("w", model.Of(model.F32, w, 20))
	g.AddConst("shape", model.Of(model.I64, []int64{-1, 20}, 2))
	g.Nodes = []*model.Node{
		{Op: "Mul", Name: "mul", In: []string{"x", "w"}, Out: []string{"product"}},
		{Op: "Reshape", Name: "reshape", In: []string{"product", "shape"}, Out: []string{"y"}, Attrs: map[string]model.Attr{"allowzero": int64(0)}},
	}
	return &Pack{
		Name: "halves", Version: 1, Graph: g,
		Labels: []string{"shirt", "coat"}, Entities: map[string]string{"shirt": "http://example.org/shirt"},
		Exam: &Exam{Tolerance: 1e-4, Cases: []Case{{
			Inputs: []*model.Tensor{model.Of(model.F32, in, 1, 20)}, Outputs: []*model.Tensor{model.Of(model.F32, out, 1, 20)},
		}}},
	}
}

// rfcKey returns the key of RFC 8032, section 7.1, TEST 1.
func rfcKey(t *testing.T) sign.PrivateKey {
	t.Helper()
	seed, err := hex.DecodeString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := sign.ReadPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// examples returns what the page must show, by the name in its comment.
func examples(t *testing.T) map[string][]byte {
	t.Helper()
	l := newLayout(t)
	digest := write(t, l, halves())
	if err := Sign(l, digest, rfcKey(t)); err != nil {
		t.Fatal(err)
	}
	blob := func(d oci.Digest) []byte {
		data, err := l.ReadBlob(d, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	out := map[string][]byte{"manifest": blob(oci.Digest(digest))}
	m, err := l.Manifest(oci.Digest(digest))
	if err != nil {
		t.Fatal(err)
	}
	out["config"] = blob(m.Config.Digest)
	for _, d := range m.Layers {
		data := blob(d.Digest)
		switch name := d.Annotations[annotationFile]; name {
		case fileWeights:
			out["header of "+name] = bytes.TrimSpace(data[8 : 8+binary.LittleEndian.Uint64(data)])
		case fileExamData:
		default:
			out[name] = data
		}
	}
	entry, err := l.Entry(oci.Digest(digest))
	if err != nil {
		t.Fatal(err)
	}
	if out["index entry"], err = json.Marshal(entry); err != nil {
		t.Fatal(err)
	}
	return out
}

var exampleRule = regexp.MustCompile("(?s)<!-- example: ([^>]*) -->\n```json\n(.*?)\n```")

func TestFormatPage(t *testing.T) {
	page, err := os.ReadFile(formatPage)
	if err != nil {
		t.Fatal(err)
	}
	want := examples(t)
	shown := map[string]bool{}
	fresh := exampleRule.ReplaceAllStringFunc(string(page), func(block string) string {
		part := exampleRule.FindStringSubmatch(block)
		name, text := part[1], part[2]
		shown[name] = true
		if want[name] == nil {
			t.Errorf("the page shows %q, which the pack does not have", name)
			return block
		}
		var a, b bytes.Buffer
		if err := json.Compact(&a, []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := json.Compact(&b, want[name]); err != nil {
			t.Fatal(err)
		}
		if a.String() != b.String() && !*update {
			t.Errorf("%s: the page shows\n%s\nbut it is\n%s", name, a.String(), b.String())
		}
		return fmt.Sprintf("<!-- example: %s -->\n```json\n%s\n```", name, pretty(t, want[name]))
	})
	for name := range want {
		if !shown[name] {
			t.Errorf("the page does not show %q", name)
		}
	}
	for _, l := range layers {
		if !strings.Contains(string(page), "| `"+l.file+"`") || !strings.Contains(string(page), "`"+l.media+"`") {
			t.Errorf("the page's table lacks %s or %s", l.file, l.media)
		}
	}
	if *update {
		if err := os.WriteFile(formatPage, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// pretty lays JSON out for a reader: small objects and lists on one line.
func pretty(t *testing.T, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	// A block whose parts are on one line each.
	block := regexp.MustCompile(`[{\[]\n(?: *(?:[^ }\]\n][^\n]*[^{\[\n]|[^ {}\[\]\n])\n)+ *[}\]]`)
	space := regexp.MustCompile(`\n *`)
	for range 4 {
		text = block.ReplaceAllStringFunc(text, func(s string) string {
			last := len(s) - 1
			one := s[:1] + strings.TrimSpace(space.ReplaceAllString(s[1:last], " ")) + s[last:]
			if len(one) > 90 {
				return s
			}
			return one
		})
	}
	return text
}
