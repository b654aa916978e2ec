package dockerapi

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/docker/go-plugins-helpers/volume"
)

// FuzzRequest: what decode accepts is one JSON object that names a volume, not
// longer than the limit, and means the same when it is written again.
func FuzzRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzzRequest(t, body, func(a, b volume.CreateRequest) bool { return a.Name == b.Name && maps.Equal(a.Options, b.Options) })
		fuzzRequest(t, body, func(a, b volume.MountRequest) bool { return a == b })
		fuzzRequest(t, body, func(a, b volume.GetRequest) bool { return a == b })
	})
}

func fuzzRequest[Req any](t *testing.T, body []byte, equal func(a, b Req) bool) {
	t.Helper()
	var req, again Req
	if err := decode(limited(body, int64(len(body))), &req); err != nil {
		if text := err.Error(); len(text) > 400 || strings.ContainsFunc(text, unicode.IsControl) {
			t.Errorf("%T: error is not one short clean line: %q", req, text)
		}
		return
	}
	if !json.Valid(body) {
		t.Errorf("%T: accepted what is not one JSON value", req)
	}
	written, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	var name struct{ Name string }
	if err := json.Unmarshal(written, &name); err != nil || name.Name == "" {
		t.Errorf("%T: accepted, but names no volume: %s", req, written)
	}
	if err := decode(limited(written, maxBody), &again); err != nil || !equal(req, again) {
		t.Errorf("%T: accepted %+v, written again it is %+v, %v", req, req, again, err)
	}
	if err := decode(limited(body, int64(len(body)-1)), new(Req)); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("%T: one byte too long: got error %v", req, err)
	}
	if err := decode(limited(append(bytes.Clone(body), body...), maxBody), new(Req)); err == nil {
		t.Errorf("%T: accepted the request twice over", req)
	}
}

// limited is a body as handle has it read.
func limited(body []byte, limit int64) io.Reader {
	return http.MaxBytesReader(nil, io.NopCloser(bytes.NewReader(body)), limit)
}
