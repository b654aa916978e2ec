//go:build !ceph || !cgo

package main

import (
	"log/slog"
	"strings"
	"testing"
)

func TestOpenPoolOfCephWithoutIt(t *testing.T) {
	_, err := openPools(t.Context(), loadText(t, "pools: {images: {type: rbd}}\n"), slog.New(slog.DiscardHandler))
	if want := `pool "images": this dvold was built without Ceph`; err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line that begins with %s", err, want)
	}
}
