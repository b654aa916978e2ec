package volumes

import (
	"errors"
	"io/fs"
	"maps"
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	s, err := parseOptions(map[string]string{
		"pool": "fast", "access": "shared", "size": "20G", "retain": "true",
		"uid": "0", "gid": "4294967294", "mode": "2770", "adopt": "old dir/ü", "vers": "4.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.pool != "fast" || s.access != AccessShared || s.size != 20<<30 || !s.retain || s.adopt != "old dir/ü" {
		t.Errorf("got %+v", s)
	}
	if *s.uid != 0 || *s.gid != 4294967294 || *s.mode != 0o770|fs.ModeSetgid {
		t.Errorf("got uid %d, gid %d, mode %v", *s.uid, *s.gid, *s.mode)
	}
	if !maps.Equal(s.own, map[string]string{"vers": "4.1"}) {
		t.Errorf("the backend's own options are %v", s.own)
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	for option, want := range map[string]string{
		"access=sometimes":                     "shared, exclusive or readonly",
		"access=":                              "shared",
		"size=0":                               "such as 20G",
		"size=-1":                              "such as 20G",
		"size=20X":                             "such as 20G",
		"size=9999999P":                        "such as 20G",
		"size=G":                               "such as 20G",
		"size=5BB":                             "such as 20G",
		"size=5IB":                             "such as 20G",
		"size=":                                "such as 20G",
		"pool=":                                "name of a pool",
		"retain=yes":                           "true or false",
		"uid=-1":                               "4294967294",
		"uid=root":                             "4294967294",
		"gid=4294967295":                       "4294967294",
		"mode=0999":                            "octal",
		"mode=4755":                            "octal",
		"mode=rwx":                             "octal",
		"adopt=":                               "adopted",
		"x=" + strings.Repeat("y", 4097):       "longer than",
		strings.Repeat("n", maxName+1) + "=is": "longer than",
	} {
		name, value, _ := strings.Cut(option, "=")
		_, err := parseOptions(map[string]string{name: value})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want ErrInvalid that says %q", option, err, want)
		}
	}
}

func TestDisagreement(t *testing.T) {
	have := record{Pool: "fast", Access: AccessShared, Size: 1 << 30, Options: map[string]string{"size": "1G", "uid": "100", "mode": "1770", "vers": "4.1"}}
	for _, tt := range []struct {
		asked map[string]string
		want  string
	}{
		{nil, ""},
		{map[string]string{"size": "1024M"}, ""},
		{map[string]string{"pool": "fast", "uid": "0100"}, ""},
		{map[string]string{"vers": "4.1", "access": "shared", "retain": "false"}, ""},
		{map[string]string{"size": "2G"}, "it has size=1073741824, not 2147483648"},
		{map[string]string{"pool": "slow"}, "it has pool=fast, not slow"},
		{map[string]string{"adopt": "(none)"}, "it has no adopt, and adopt=(none) was asked for"},
		{map[string]string{"gid": "5"}, "it has no gid, and gid=5 was asked for"},
		{map[string]string{"mode": "2750"}, "it has mode=1770, not 2750"},
		{map[string]string{"mode": "01770"}, ""},
		{map[string]string{"vers": "4.1\n"}, `it has vers=4.1, not "4.1\n"`},
		{map[string]string{"vers": "3"}, "it has vers=4.1, not 3"},
		{map[string]string{"soft": "1"}, "it has no soft, and soft=1 was asked for"},
		{map[string]string{"retain": "true"}, "it has retain=false, not true"},
	} {
		got, err := disagreement(tt.asked, have)
		if err != nil || got != tt.want {
			t.Errorf("disagreement(%v) = %q, %v; want %q", tt.asked, got, err, tt.want)
		}
	}
}

// Whoever asks for a volume that was resized since may ask for what it was, or is.
func TestDisagreementAfterResize(t *testing.T) {
	for _, tt := range []struct {
		made    string
		now     int64
		asked   string
		agreed  bool
		mention string
	}{
		{"1G", 2 << 30, "1G", true, ""},
		{"1G", 2 << 30, "2G", true, ""},
		{"1G", 2 << 30, "3G", false, "it has size=2147483648"},
		{"1G", 0, "1024M", true, ""},
		{"1G", 0, "2G", false, "it has no size"},
		{"", 2 << 30, "2G", true, ""},
		{"", 2 << 30, "1G", false, "it has size=2147483648"},
	} {
		have := record{Size: tt.now, Options: map[string]string{}}
		if tt.made != "" {
			have.Options["size"] = tt.made
		}
		got, err := disagreement(map[string]string{"size": tt.asked}, have)
		if err != nil || (got == "") != tt.agreed || !strings.Contains(got, tt.mention) {
			t.Errorf("%+v: got %q, %v", tt, got, err)
		}
	}
}
