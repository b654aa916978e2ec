package cephfs

import (
	"errors"
	"testing"

	"github.com/dvol/dvold/backends"
)

func TestParseMeta(t *testing.T) {
	const at = "/volumes/docker/db.0123456789ab"
	meta := func(state, path string) string {
		return "[GLOBAL]\nversion = 2\ntype = subvolume\npath = " + path + "\nstate = " + state + "\n\n[USER_METADATA]\npath = /etc\n"
	}
	for text, want := range map[string]struct {
		uuid string
		err  error
	}{
		meta("complete", at+"/uuid"):                   {uuid: "uuid"},
		meta("complete", at):                           {err: backends.ErrUnavailable},
		meta("complete", at+"/"):                       {err: backends.ErrUnavailable},
		meta("complete", at+"/.."):                     {err: backends.ErrUnavailable},
		meta("complete", at+"/a/b"):                    {err: backends.ErrUnavailable},
		meta("complete", "/volumes/docker/other/uuid"): {err: backends.ErrUnavailable},
		meta("in-progress", at+"/uuid"):                {err: backends.ErrUnavailable},
		meta("snapshot-retained", ""):                  {err: backends.ErrNotFound},
		"":                                             {err: backends.ErrUnavailable},
		"[USER_METADATA]\npath = " + at + "/uuid\nstate = complete\n": {err: backends.ErrUnavailable},
	} {
		uuid, err := parseMeta([]byte(text), at)
		if uuid != want.uuid || !errors.Is(err, want.err) {
			t.Errorf("%q: got %q, %v, want %+v", text, uuid, err, want)
		}
	}
}
