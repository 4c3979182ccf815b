package probe

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLearn(t *testing.T) {
	base, _ := serve(t, &device{}, Options{MaxBody: 4 << 10})
	const path = "/v1/models/adder/learn"
	const form = "multipart/form-data; boundary=b"
	part := func(name, data string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"; filename=\"x\"\r\n\r\n" + data + "\r\n"
	}
	for _, c := range []struct {
		what, method, path, kind, body string
		want                           int
		says                           string
	}{
		{"state", "GET", path, "", "", 200, `"kept":3`},
		{"state of another", "GET", "/v1/models/other/learn", "", "", 404, "no such model"},
		{"off", "DELETE", path, "", "", 403, "off"},
		{"one", "POST", path + "?label=a/b", "image/png", "data", 200, `"a/b":"data"`},
		{"many", "POST", path, form, part("a", "1") + part("b", "2") + part("a", "3") + "--b--", 200, `"a":"13"`},
		{"a label for all", "POST", path + "?label=z", form, part("a", "1") + part("", "2") + "--b--", 200, `"z":"12"`},
		{"without a name", "POST", path, form, part("", "2") + "--b--", 400, "sample 1: its label"},
		{"an empty one", "POST", path, form, part("a", "1") + part("b", "") + "--b--", 400, "sample 2: it is empty"},
		{"without an end", "POST", path, form, part("a", "1"), 400, "EOF"},
		{"no label", "POST", path, "image/png", "data", 400, "?label=NAME"},
		{"too often", "POST", path + "?label=a", "image/png", "often", 429, "faster"},
		{"too large", "POST", path + "?label=a", "image/png", strings.Repeat("x", 5<<10), 413, "4096"},
		{"too large a part", "POST", path, form, part("a", strings.Repeat("x", 5<<10)), 413, "4096"},
	} {
		if status, body := ask(t, c.method, base+c.path, c.kind, c.body); status != c.want || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s, want %d and %q", c.what, status, body, c.want, c.says)
		}
	}
}

func FuzzLessons(f *testing.F) {
	f.Add("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--")
	f.Add("image/png", "data")
	f.Fuzz(func(t *testing.T, kind, body string) {
		r := httptest.NewRequest("POST", "/v1/models/adder/learn?label=a", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		next, err := lessons(r)
		for n := 0; err == nil; n++ {
			var l Lesson
			if l, err = next(); err == nil && (l.Label == "" || len(l.Data) == 0 || n > maxLessons) {
				t.Fatalf("sample %d: %+v", n, l)
			}
		}
	})
}
