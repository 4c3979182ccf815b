package image

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/hex"
	"regexp"
	"strings"
)

// Settings are a person's own, which the first boot applies. The zero
// Settings change nothing.
type Settings struct {
	Hostname string
	// User is the name of the account that the image's first one becomes,
	// PasswordHash its password as crypt(3) writes it ("openssl passwd -6"),
	// "": it has none. SSHKeys may log in to it; they turn SSH on.
	User, PasswordHash string
	SSHKeys            []string
	WiFi               WiFi
}

// WiFi is a network, which has a name or is none.
type WiFi struct {
	SSID, Password string // Password "": an open network
	Country        string // two letters: without it the radio stays off
	Hidden         bool
}

func (s Settings) none() bool {
	return s.Hostname == "" && s.User == "" && s.PasswordHash == "" && len(s.SSHKeys) == 0 && s.WiFi == WiFi{}
}

const (
	hostnameForm = `^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$`
	userForm     = `^[a-z_][a-z0-9_-]*$`
	hashForm     = `^\$[a-z0-9]{1,8}\$[a-zA-Z0-9./$=,-]+$`
	keyForm      = `^(ssh-|ecdsa-|sk-)[a-zA-Z0-9@.-]+ [a-zA-Z0-9+/=]+( [^\x00-\x1f\x7f"\\]*)?$`
	countryForm  = `^[A-Z]{2}$`
	hexKey       = `^[0-9a-fA-F]{64}$`
	printable    = `^[ -~]*$`
)

func (s Settings) check() error {
	switch {
	case s.Hostname != "" && (len(s.Hostname) > 63 || !matches(hostnameForm, s.Hostname)):
		return refuse("", "hostname %.80q: want letters, digits and -, at most 63", s.Hostname)
	case s.User != "" && (len(s.User) > 32 || !matches(userForm, s.User)):
		return refuse("", "user %.80q: want a-z 0-9 _ -, the first no digit, at most 32", s.User)
	case s.User == "" && (s.PasswordHash != "" || len(s.SSHKeys) > 0):
		return refuse("", "a password or a key, and no user who has it")
	case s.User != "" && s.PasswordHash == "" && len(s.SSHKeys) == 0:
		return refuse("", "user %s has neither a key nor a password: nobody could log in", s.User)
	case s.PasswordHash != "" && (len(s.PasswordHash) < 12 || len(s.PasswordHash) > 200 || !matches(hashForm, s.PasswordHash)):
		return refuse("make one: openssl passwd -6", "the password is no hash of crypt(3)")
	}
	for i, key := range s.SSHKeys {
		if !matches(keyForm, key) || len(key) > 16<<10 {
			return refuse("give the file that ends in .pub", "SSH key %d is no public key", i+1)
		}
	}
	return s.WiFi.check()
}

func (w WiFi) check() error {
	if (w == WiFi{}) {
		return nil
	}
	switch n := len(w.Password); {
	case len(w.SSID) < 1 || len(w.SSID) > 32 || strings.ContainsFunc(w.SSID, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }):
		return refuse("", "Wi-Fi name %.40q: want 1 to 32 bytes of text", w.SSID)
	case n != 0 && !matches(hexKey, w.Password) && (n < 8 || n > 63 || !matches(printable, w.Password)):
		return refuse("", "Wi-Fi password: want 8 to 63 characters of ASCII, or a key of 64 hex digits")
	case !matches(countryForm, w.Country):
		return refuse("for example DE, GB, US", "Wi-Fi country %.10q: want its two letters", w.Country)
	}
	return nil
}

// key returns the pre-shared key in hex, "" for an open network: the password
// itself does not go onto the card. IEEE 802.11-2020, J.4.1.
func (w WiFi) key() string {
	if w.Password == "" || matches(hexKey, w.Password) {
		return strings.ToLower(w.Password)
	}
	k, err := pbkdf2.Key(sha1.New, w.Password, []byte(w.SSID), 4096, 32)
	if err != nil {
		panic(err) // only for lengths that FIPS 140 forbids, which these are not
	}
	return hex.EncodeToString(k)
}

// matches compiles a form when it is needed: this package is linked into a
// program that mostly does something else.
func matches(form, s string) bool { return regexp.MustCompile(form).MatchString(s) }
