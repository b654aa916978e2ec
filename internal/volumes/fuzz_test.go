package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/big"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// FuzzName: a name is what Docker's local driver takes and a file can be
// called, so are the ID and the keys made of it, and a refusal is one line.
func FuzzName(f *testing.F) {
	for _, name := range hostileNames {
		f.Add(name)
	}
	f.Add("Data_1.old-x")
	f.Fuzz(func(t *testing.T, name string) {
		err := CheckName(name)
		if want := isName(name); (err == nil) != want {
			t.Fatalf("CheckName(%q) = %v, want it accepted: %v", name, err, want)
		}
		if err != nil {
			if text := err.Error(); !errors.Is(err, ErrInvalid) || len(text) > 400 || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("got %q, want ErrInvalid on one short clean line", text)
			}
			return
		}
		id := newID(name)
		if len(id) > 213 || !strings.HasPrefix(id, name+".") || CheckName(id[len(name)+1:]) != nil {
			t.Errorf("ID %q of volume %q", id, name)
		}
		for _, element := range []string{name, id} {
			if filepath.Base(element) != element || !filepath.IsLocal(element) || !fs.ValidPath(element) {
				t.Errorf("%q is no path element", element)
			}
		}
		for key, last := range map[string]string{volumeKey(name): name, trashKey(id): id} {
			if !fs.ValidPath(key) || strings.ContainsFunc(key, unicode.IsSpace) || filepath.Base(key) != last {
				t.Errorf("%q is no key that ends in %q", key, last)
			}
		}
	})
}

// isName says by another way what CheckName should.
func isName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if len(name) < 2 || len(name) > 200 || !strings.Contains(letters, name[:1]) {
		return false
	}
	return strings.Trim(name, letters+"_.-") == "" && !slices.ContainsFunc([]byte(name), func(b byte) bool {
		return !strings.Contains(letters+"_.-", string(rune(b)))
	})
}

// FuzzOptions: options that are accepted lie within their limits, mean the
// same in the form that dvold shows, and agree with the volume made of them.
func FuzzOptions(f *testing.F) {
	for _, o := range []string{
		"pool=fast", "access=shared", "access=exclusive", "size=20G", "size=3KiB", "size=9999999P", "size=-1", "size=8191P", "size=9223372036854775807",
		"retain=true", "retain=yes", "uid=0", "uid=-1", "gid=4294967294", "gid=4294967295", "mode=2770", "mode=4755", "mode=0999", "adopt=old dir/ü", "adopt=", "vers=4.1", "=",
	} {
		name, value, _ := strings.Cut(o, "=")
		f.Add(name, value, "uid", "7", uint8(0))
		f.Add("mode", "0750", name, value, uint8(maxOptions-2))
	}
	f.Add("size", "1G", "size", "2G", uint8(maxOptions))
	f.Add(strings.Repeat("n", maxName+1), "", "x", strings.Repeat("y", maxOption+1), uint8(1))
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, more uint8) {
		options := map[string]string{name1: value1, name2: value2}
		for i := range more {
			options[fmt.Sprint("own", i)] = value1
		}
		s, err := parseOptions(options)
		if err != nil {
			if text := err.Error(); !errors.Is(err, ErrInvalid) || len(text) > 4*maxOption+400 || strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("got %q, want ErrInvalid on one clean line", text)
			}
			return
		}
		checkSettings(t, options, s)
		checkAgreement(t, options, s)
		without := maps.Clone(options)
		delete(without, name1)
		if difference, err := disagreement(without, record{Pool: s.pool, Access: s.access, Options: options}); err != nil || difference != "" {
			t.Errorf("%q was not asked for and still disagrees: %q, %v", name1, difference, err)
		}
	})
}

// checkSettings fails the test unless s lies within the limits.
func checkSettings(t *testing.T, options map[string]string, s settings) {
	t.Helper()
	if len(options) > 64 {
		t.Errorf("accepted %d options", len(options))
	}
	for name, value := range options {
		if len(name) > 200 || len(value) > 4096 {
			t.Errorf("accepted an option of %d and %d bytes", len(name), len(value))
		}
	}
	size, given := options["size"]
	if want := bytesIn(size); given != (s.size > 0) || given && (want == nil || want.Cmp(big.NewInt(s.size)) != 0) {
		t.Errorf("size %q was read as %d, want %v", size, s.size, want)
	}
	if mode, err := strconv.ParseUint(options["mode"], 8, 64); s.mode != nil {
		want := fs.FileMode(mode & 0o777)
		for bit, is := range map[uint64]fs.FileMode{0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if mode&bit != 0 {
				want |= is
			}
		}
		if err != nil || mode > 0o3777 || *s.mode != want {
			t.Errorf("mode %q was read as %v, want %v", options["mode"], *s.mode, want)
		}
	}
	for _, id := range []*int{s.uid, s.gid} {
		if id != nil && (*id < 0 || *id >= math.MaxUint32) {
			t.Errorf("owner %q:%q was read as %d", options["uid"], options["gid"], *id)
		}
	}
	if access := options["access"]; string(s.access) != access {
		t.Errorf("access %q was read as %q", options["access"], s.access)
	}
}

// bytesIn reads a size with as many bits as it needs.
func bytesIn(size string) *big.Int {
	digits := strings.TrimRight(strings.ToUpper(size), "BIKMGTP")
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return nil
	}
	factors := map[byte]uint{'K': 10, 'M': 20, 'G': 30, 'T': 40, 'P': 50}
	if unit := size[len(digits):]; unit != "" {
		n.Lsh(n, factors[strings.ToUpper(unit)[0]])
	}
	return n
}

// checkAgreement fails the test unless the options agree with a volume made of
// them, in their own form and in the one that dvold shows.
func checkAgreement(t *testing.T, options map[string]string, s settings) {
	t.Helper()
	shown := make(map[string]string)
	for name := range options {
		shown[name], _ = s.show(name)
	}
	again, err := parseOptions(shown)
	if err != nil {
		t.Fatalf("%q is shown as %q, which is refused: %v", options, shown, err)
	}
	for name, value := range shown {
		if got, _ := again.show(name); got != value {
			t.Errorf("%s=%q is shown as %q, and that as %q", name, options[name], value, got)
		}
	}
	made := record{Pool: s.pool, Access: s.access, Options: options}
	for _, asked := range []map[string]string{nil, options, shown} {
		if difference, err := disagreement(asked, made); err != nil || difference != "" {
			t.Errorf("a volume made with %q does not agree with %q: %q, %v", options, asked, difference, err)
		}
	}
	made.Options = shown
	if difference, err := disagreement(options, made); err != nil || difference != "" {
		t.Errorf("a volume made with %q does not agree with %q: %q, %v", shown, options, difference, err)
	}
}
