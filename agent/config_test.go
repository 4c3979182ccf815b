package agent

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Each file breaks one rule; its first line says which words the error has.
func TestConfigRules(t *testing.T) {
	files, err := filepath.Glob("testdata/bad-*.toml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		want := strings.TrimPrefix(first, "# want: ")
		_, err = ReadConfig(file)
		if _, ok := errors.AsType[*ConfigError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", file, err, want)
		}
	}
}

// The example names every field, and shows the defaults.
func TestExampleIsTheDefaults(t *testing.T) {
	got, err := parseConfig("/etc/dunlin/agent.toml", Example)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.HTTP.Socket = filepath.Join(want.StateDir, "agent.sock")
	want.Model.ReleaseKeys = []string{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example says %+v, the defaults are %+v", got, want)
	}
	for _, line := range fields(reflect.TypeFor[Config]()) {
		if !strings.Contains(Example, "\n"+line) {
			t.Errorf("the example does not show %s", line)
		}
	}
}

// fields lists the names of all fields of a struct and the tables in it.
func fields(s reflect.Type) (names []string) {
	for i := range s.NumField() {
		f := s.Field(i)
		name := f.Tag.Get("toml")
		if f.Type.Kind() == reflect.Struct {
			names = append(append(names, "["+name+"]"), fields(f.Type)...)
			continue
		}
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct { // there is none by default: it is shown in a comment
			names = append(names, "# [["+name+"]]")
			for _, n := range fields(f.Type.Elem()) {
				names = append(names, "# "+n)
			}
			continue
		}
		names = append(names, name+" ")
	}
	return names
}

func TestConfigPaths(t *testing.T) {
	c, err := parseConfig("/srv/dunlin/agent.toml", "state_dir = \"state\"\n[folder]\ndir = \"/inbox\"\n[hub]\ntoken_file = \"token\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.StateDir != "/srv/dunlin/state" || c.Folder.Dir != "/inbox" || c.Hub.TokenFile != "/srv/dunlin/token" ||
		c.HTTP.Socket != "/srv/dunlin/state/agent.sock" {
		t.Errorf("%+v", c)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(Example)
	f.Add("[hub]\ntoken = \"dunlin1.e30\"\n")
	f.Add("[[sensor]]\nname = \"a\"\nkind = \"bme280\"\nbus = \"i2c-1\"\n[[source]]\nname = \"b\"\nkind = \"sensors\"\nreadings = [\"a.pressure\"]\n" +
		"[[trigger]]\nsources = [\"b\"]\nreading = \"a.humidity\"\nabove = 1.0\n")
	f.Add("a.b.c = 1\n[x]\ny = {z = 1}\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		c, err := parseConfig("agent.toml", text)
		if err == nil && c.StateDir == "" {
			t.Error("a configuration without a state_dir was taken")
		}
	})
}
