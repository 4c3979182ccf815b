package release

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"dunlin/internal/oci"
)

func TestNumbers(t *testing.T) {
	last := int64(-1)
	for _, v := range []string{"0.0.0", "0.0.9", "0.0.10", "0.1.0", "0.1.999", "0.2.0", "1.0.0", "10.0.0"} {
		n, err := Number(v)
		if err != nil || n <= last || Text(n) != v {
			t.Errorf("%s is %d (%q), %v; the one before %d", v, n, Text(n), err, last)
		}
		last = n
	}
	a, errA := Number("0.2.0-dev")
	b, errB := Number("0.2.0+build.7")
	if errA != nil || errB != nil || a != 2000 || b != 2000 {
		t.Errorf("%d, %v; %d, %v", a, errA, b, errB)
	}
	for _, v := range []string{"", "1", "1.2", "1.2.3.4", "1.2.1000", "v1.2.3", "1.02.3", "1.-2.3", "1.2.x", "-1.2.3", "1.2.+3"} {
		if n, err := Number(v); err == nil {
			t.Errorf("%q is a version: %d", v, n)
		}
	}
}

func written(t *testing.T, c Config, platforms ...string) (*oci.Layout, oci.Digest, error) {
	t.Helper()
	l, err := oci.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var all []Binary
	for _, p := range platforms {
		all = append(all, Binary{p, strings.NewReader("binary for " + p)})
	}
	d, err := Write(l, c, all)
	return l, d.Digest, err
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	c := Config{Version: "0.2.0", From: "0.1.0", AllowDowngrade: true}
	l, d, err := written(t, c, "linux/amd64", "linux/arm64", "linux/arm/6", "linux/arm/7")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Read(l, d)
	if err != nil || r.Config != c || r.Number != 2000 || len(r.Builds) != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	for machine, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm64": "linux/arm64", "linux/arm/7": "linux/arm/7", "linux/arm/6": "linux/arm/6",
		"linux/arm/5": "", "linux/riscv64": "", "darwin/arm64": "",
	} {
		b, err := r.For(machine)
		if (err != nil) != (want == "") || b.Platform != want || err != nil && !errors.Is(err, ErrNoBuild) {
			t.Errorf("%s gets %q, %v", machine, b.Platform, err)
			continue
		}
		if err != nil {
			continue
		}
		f, _, err := l.OpenBlob(b.Blob.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(f); err != nil || string(text) != "binary for "+want {
			t.Errorf("%s: %q, %v", machine, text, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l, d, err = written(t, c, "linux/arm/6")
	if err != nil {
		t.Fatal(err)
	}
	if r, err = Read(l, d); err != nil {
		t.Fatal(err)
	}
	if b, err := r.For("linux/arm/7"); err != nil || b.Platform != "linux/arm/6" {
		t.Errorf("a build for ARMv6 is none for ARMv7: %+v, %v", b, err)
	}
}

func TestWhatIsNoRelease(t *testing.T) {
	if p := Platform(); strings.Count(p, "/") < 1 {
		t.Errorf("this machine is a %q", p)
	}
	for name, c := range map[string]Config{
		"no version": {}, "a pre-release": {Version: "0.2.0-rc1"}, "two parts": {Version: "0.2"}, "from": {Version: "0.2.0", From: "old"},
	} {
		if _, _, err := written(t, c, "linux/arm64"); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	for _, platforms := range [][]string{{}, {"linux"}, {"linux/arm64", "linux/arm64"}} {
		if _, _, err := written(t, Config{Version: "0.2.0"}, platforms...); !errors.Is(err, ErrRelease) {
			t.Errorf("%v: %v", platforms, err)
		}
	}
	l, _, err := written(t, Config{Version: "0.2.0"}, "linux/arm64")
	if err != nil {
		t.Fatal(err)
	}
	config, err := l.PutBytes(MediaTypeConfig, []byte(`{"version":"0.3.0"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*oci.Manifest{
		"another version": {ArtifactType: ArtifactType, Config: config, Annotations: map[string]string{oci.AnnotationTitle: Name, oci.AnnotationVersion: "2000"}},
		"another name":    {ArtifactType: ArtifactType, Config: config, Annotations: map[string]string{oci.AnnotationTitle: "garments", oci.AnnotationVersion: "3000"}},
		"another type":    {ArtifactType: "application/vnd.cncf.model.manifest.v1+json", Config: config},
	} {
		d, err := l.PutManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := Read(l, d.Digest); !errors.Is(err, ErrRelease) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"artifactType":"application/vnd.dunlin.agent.v1","annotations":{"org.opencontainers.image.title":"dunlin-agent","org.opencontainers.image.version":"2000"},"layers":[{"mediaType":"application/vnd.dunlin.agent.binary.v1","size":5,"platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}`), []byte(`{"version":"0.2.0"}`))
	f.Add([]byte(`{}`), []byte(`{"version":"0.2.0","from":"x"}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		var m oci.Manifest
		if json.Unmarshal(manifest, &m) != nil {
			return
		}
		r, err := parse(&m, config)
		if err != nil {
			return
		}
		if r.Number < 0 || Text(r.Number) != r.Version || len(r.Builds) == 0 {
			t.Fatalf("%+v was taken", r)
		}
		for _, b := range r.Builds {
			if _, err := r.For(b.Platform); err != nil {
				t.Errorf("its own platform: %v", err)
			}
		}
	})
}
