package dockerapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/go-plugins-helpers/volume"
)

func quiet() *Server { return New(nil, slog.New(slog.DiscardHandler)) }

// TestDeadline: the engine gives up on a Mount after 2 minutes, so the call
// must be told before.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handle(quiet(), longCall, func(ctx context.Context, _ volume.MountRequest) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		w := httptest.NewRecorder()
		began := time.Now()
		h(w, httptest.NewRequest(http.MethodPost, "/VolumeDriver.Mount", strings.NewReader(`{"Name":"data","ID":"c1"}`)))
		if took := time.Since(began); took != 100*time.Second || w.Code != http.StatusInternalServerError {
			t.Errorf("answered %d after %v, want an error after 100 s", w.Code, took)
		}
	})
}

// deaf is a peer that left before the answer was written.
type deaf struct{ *httptest.ResponseRecorder }

func (deaf) FlushError() error { return errors.New("broken pipe") }

// TestUndeliveredMountIsUndone: the engine does not know of the mount.
func TestUndeliveredMountIsUndone(t *testing.T) {
	undone := 0
	h := handle(quiet(), longCall, func(context.Context, volume.MountRequest) (any, error) {
		return undoable{volume.MountResponse{Mountpoint: "/x"}, func(ctx context.Context) error {
			undone++
			return ctx.Err()
		}}, nil
	})
	request := func() *http.Request {
		return httptest.NewRequest(http.MethodPost, "/VolumeDriver.Mount", strings.NewReader(`{"Name":"data","ID":"c1"}`))
	}
	w := httptest.NewRecorder()
	if h(w, request()); undone != 0 || w.Body.String() != `{"Mountpoint":"/x"}` {
		t.Errorf("delivered mount: undone %d times, answer %s", undone, w.Body)
	}
	if h(deaf{httptest.NewRecorder()}, request()); undone != 1 {
		t.Errorf("undelivered mount: undone %d times, want once", undone)
	}
}
