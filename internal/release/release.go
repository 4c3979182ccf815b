// Package release is a release of the agent as an OCI artefact: one binary for
// each platform under one manifest, which a release key signs. Start with
// Write, Read and Release.For.
//
// Its promise: what Read returns was hashed and says the same in its manifest
// and its config, so a signature over the manifest's digest covers all of it.
//
// It looks at no signature, and starts none of the binaries: who takes a
// release does both.
package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"dunlin/internal/oci"
)

// Name is what every release is called, in the registry and in offers. No
// model may have it.
const Name = "dunlin-agent"

// The types of a release. Each layer is the binary of one platform, which
// stands in the layer's descriptor as OCI has it.
const (
	ArtifactType    = "application/vnd.dunlin.agent.v1"
	MediaTypeConfig = "application/vnd.dunlin.agent.config.v1+json"
	MediaTypeBinary = "application/vnd.dunlin.agent.binary.v1"
)

// MaxBinary bounds one binary, in bytes.
const MaxBinary = 64 << 20

// maxConfig bounds the config blob, in bytes.
const maxConfig = 16 << 10

// ErrRelease is wrapped by the error for what is no release of the agent.
var ErrRelease = errors.New("not a release of dunlin-agent")

// ErrNoBuild is wrapped where a release has no binary for a platform.
var ErrNoBuild = errors.New("the release has no build for this platform")

// Config is what a release says of itself.
type Config struct {
	Version string `json:"version"` // "0.2.0"
	// From is the lowest version that this one may follow, "" for any: an
	// older agent's files may be of a form that it does not read any more.
	From string `json:"from,omitempty"`
	// AllowDowngrade lets devices that had a newer version take this one.
	AllowDowngrade bool `json:"allow_downgrade,omitempty"`
}

// Release is a release that was read.
type Release struct {
	Config
	Number int64 // of Version, see Number
	Builds []Build
}

// Build is the binary of one platform, "linux/arm64" or "linux/arm/7".
type Build struct {
	Platform string
	Blob     oci.Descriptor
}

// Binary is a binary to be packed.
type Binary struct {
	Platform string
	Content  io.Reader
}

// Number makes a number of "MAJOR.MINOR.PATCH", which grows as versions do:
// 1.2.3 is 1,002,003. Each part is 0 to 999. What follows a "-" or "+" is not
// looked at: 0.2.0-dev counts as 0.2.0.
func Number(version string) (int64, error) {
	text, _, _ := strings.Cut(version, "+")
	text, _, _ = strings.Cut(text, "-")
	parts := strings.Split(text, ".")
	n := int64(0)
	for _, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil || v > 999 || strconv.FormatUint(v, 10) != p {
			return 0, fmt.Errorf("version %.40q: want MAJOR.MINOR.PATCH, each 0 to 999", version)
		}
		n = n*1000 + int64(v)
	}
	if len(parts) != 3 {
		return 0, fmt.Errorf("version %.40q: want MAJOR.MINOR.PATCH", version)
	}
	return n, nil
}

// Text is the inverse of Number.
func Text(number int64) string {
	return fmt.Sprintf("%d.%d.%d", number/1_000_000, number/1000%1000, number%1000)
}

// Check returns the number of the version, or what is wrong with the config.
func (c Config) Check() (int64, error) {
	n, err := Number(c.Version)
	if err == nil && Text(n) != c.Version {
		err = fmt.Errorf("version %.40q: a release is MAJOR.MINOR.PATCH and nothing more", c.Version)
	}
	if err == nil && c.From != "" {
		_, err = Number(c.From)
	}
	return n, err
}

// Write packs binaries into a layout, at the end of its index, and returns
// the manifest's descriptor.
func Write(l *oci.Layout, c Config, binaries []Binary) (oci.Descriptor, error) {
	n, err := c.Check()
	if err != nil {
		return oci.Descriptor{}, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return oci.Descriptor{}, err
	}
	config, err := l.PutBytes(MediaTypeConfig, text)
	if err != nil {
		return oci.Descriptor{}, err
	}
	notes := map[string]string{oci.AnnotationTitle: Name, oci.AnnotationVersion: strconv.FormatInt(n, 10)}
	m := &oci.Manifest{ArtifactType: ArtifactType, Config: config, Annotations: notes}
	for _, b := range binaries {
		d, err := l.Put(MediaTypeBinary, b.Content)
		if err != nil {
			return oci.Descriptor{}, fmt.Errorf("binary for %s: %w", b.Platform, err)
		}
		d.Platform = platformOf(b.Platform)
		m.Layers = append(m.Layers, d)
	}
	if _, err := parse(m, text); err != nil {
		return oci.Descriptor{}, err
	}
	d, err := l.PutManifest(m)
	if err != nil {
		return oci.Descriptor{}, err
	}
	d.Annotations = notes
	return d, l.Add(d)
}

// Read reads a release from its manifest and its config, both hashed; the
// binaries need not be there. Errors wrap ErrRelease, or are the layout's.
func Read(l *oci.Layout, manifest oci.Digest) (Release, error) {
	m, err := l.Manifest(manifest)
	if err != nil {
		return Release{}, err
	}
	if m.ArtifactType != ArtifactType || m.Config.MediaType != MediaTypeConfig {
		return Release{}, fmt.Errorf("%w: it is a %.80q with config %.80q", ErrRelease, m.ArtifactType, m.Config.MediaType)
	}
	text, err := l.ReadBlob(m.Config.Digest, maxConfig)
	if err != nil {
		return Release{}, err
	}
	return parse(m, text)
}

// parse checks what a manifest and its config say.
func parse(m *oci.Manifest, config []byte) (r Release, err error) {
	if err := json.Unmarshal(config, &r.Config); err != nil {
		return r, fmt.Errorf("%w: config: %w", ErrRelease, err)
	}
	if r.Number, err = r.Check(); err != nil {
		return r, fmt.Errorf("%w: %w", ErrRelease, err)
	}
	name, version := m.Annotations[oci.AnnotationTitle], m.Annotations[oci.AnnotationVersion]
	if name != Name || version != strconv.FormatInt(r.Number, 10) {
		return r, fmt.Errorf("%w: its config says version %s, its manifest %.80q version %.20q", ErrRelease, r.Version, name, version)
	}
	seen := map[string]bool{}
	for _, d := range m.Layers {
		if d.MediaType != MediaTypeBinary {
			continue
		}
		p := platformText(d.Platform)
		if p == "" || seen[p] || d.Size <= 0 || d.Size > MaxBinary {
			return r, fmt.Errorf("%w: a binary of %d bytes for platform %.40q", ErrRelease, d.Size, p)
		}
		seen[p] = true
		r.Builds = append(r.Builds, Build{p, d})
	}
	if len(r.Builds) == 0 {
		return r, fmt.Errorf("%w: it has no binary", ErrRelease)
	}
	return r, nil
}

// For returns the build that a machine of that platform runs: its own, or
// for arm that of the highest lower version of the architecture.
func (r Release) For(platform string) (Build, error) {
	layers := make([]oci.Descriptor, len(r.Builds))
	for i, b := range r.Builds {
		layers[i] = b.Blob
	}
	best := Layers(platform, layers)
	if best == nil {
		return Build{}, fmt.Errorf("%s for %s: %w", r.Version, platform, ErrNoBuild)
	}
	return Build{platformText(best[0].Platform), best[0]}, nil
}

// Layers returns of a manifest's layers the one that For is about, nil for
// none: what a machine of that platform has to fetch.
func Layers(platform string, all []oci.Descriptor) []oci.Descriptor {
	best := -1
	for i, d := range all {
		if runs(platform, d) && (best < 0 || platformText(d.Platform) > platformText(all[best].Platform)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	return all[best : best+1]
}

// runs tells whether a machine of that platform runs the binary of a layer.
func runs(platform string, layer oci.Descriptor) bool {
	have := platformText(layer.Platform)
	if layer.MediaType != MediaTypeBinary {
		return false
	}
	if have == "" || have == platform {
		return have != ""
	}
	arch, version, ok := cutArm(platform)
	haveArch, haveVersion, haveOK := cutArm(have)
	return ok && haveOK && arch == haveArch && haveVersion <= version
}

// cutArm splits "linux/arm/7".
func cutArm(platform string) (arch string, version int, ok bool) {
	parts := strings.Split(platform, "/")
	if len(parts) != 3 || parts[1] != "arm" {
		return "", 0, false
	}
	version, err := strconv.Atoi(parts[2])
	return parts[0] + "/arm", version, err == nil
}

// Platform is what this program was built for.
func Platform() string {
	if runtime.GOARCH != "arm" {
		return runtime.GOOS + "/" + runtime.GOARCH
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return PlatformOf(info)
	}
	return runtime.GOOS + "/arm/6"
}

// PlatformOf is what a program with that build information was built for;
// "" where it does not say.
func PlatformOf(info *debug.BuildInfo) string {
	value := func(key string) string {
		i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == key })
		if i < 0 {
			return ""
		}
		return info.Settings[i].Value
	}
	p := value("GOOS") + "/" + value("GOARCH")
	if strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") {
		return ""
	}
	if value("GOARCH") == "arm" {
		version, _, _ := strings.Cut(value("GOARM"), ",") // "7,hardfloat"
		p += "/" + version
	}
	return p
}

func platformOf(text string) *v1.Platform {
	parts := append(strings.Split(text, "/"), "", "")
	p := &v1.Platform{OS: parts[0], Architecture: parts[1]}
	if parts[2] != "" {
		p.Variant = "v" + parts[2]
	}
	return p
}

func platformText(p *v1.Platform) string {
	if p == nil || p.OS == "" || p.Architecture == "" {
		return ""
	}
	text := p.OS + "/" + p.Architecture
	if p.Architecture == "arm" {
		text += "/" + strings.TrimPrefix(p.Variant, "v")
	}
	return text
}
