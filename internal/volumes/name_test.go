package volumes

import (
	"errors"
	"strings"
	"testing"
)

var hostileNames = map[string]string{
	"empty":                 "",
	"one letter":            "a",
	"traversal":             "../../etc/x",
	"dots":                  "..",
	"slash":                 "a/b",
	"NUL":                   "a\x00b",
	"newline":               "ab\n",
	"control":               "a\x1bb",
	"space":                 "a b",
	"leading dash":          "-rf",
	"leading dot":           ".hidden",
	"look-alike":            "dаta", // a Cyrillic a
	"invalid UTF-8":         "a\xffb",
	"replacement character": "a\uFFFDb",
	"one byte too long":     strings.Repeat("x", maxName+1),
	"40,000 bytes":          strings.Repeat("x", 40000),
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"db", "Data_1.old-x", strings.Repeat("x", maxName), "0a"} {
		if err := CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	for what, name := range hostileNames {
		err := CheckName(name)
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: CheckName = %v, want ErrInvalid", what, err)
			continue
		}
		if text := err.Error(); len(text) > 400 || strings.ContainsAny(text, "\n\x00\x1b") {
			t.Errorf("%s: error is not one short clean line: %q", what, text)
		}
	}
}
