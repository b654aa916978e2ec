package adminapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A migration takes as long as it takes, unless the daemon ends.
func TestLongCallEndsWithTheServer(t *testing.T) {
	s := New(nil, "test", slog.New(slog.DiscardHandler))
	called := make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/long", s.handleLong(func(ctx context.Context, _ *http.Request) (any, error) {
		if _, limited := ctx.Deadline(); limited {
			t.Error("a long call has a deadline")
		}
		close(called)
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	mux.Handle("/short", s.handle(func(ctx context.Context, _ *http.Request) (any, error) {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("a call has no deadline")
		}
		return "", nil
	}))
	s.http.Handler = mux
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served, asked := make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	client := NewClient(socket)
	var answer string
	if err := client.do(t.Context(), http.MethodGet, "/short", nil, &answer); err != nil {
		t.Error(err)
	}
	go func() { asked <- client.ask(t.Context(), http.MethodGet, "/long", nil, &answer) }()
	<-called
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-asked; err == nil || !strings.Contains(err.Error(), "repeat the command") {
		t.Errorf("long call: %v, want what to do", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// The operator's Ctrl-C reaches the call.
func TestLongCallEndsWithItsCaller(t *testing.T) {
	s := New(nil, "test", slog.New(slog.DiscardHandler))
	called, ended := make(chan struct{}), make(chan struct{})
	s.http.Handler = s.handleLong(func(ctx context.Context, r *http.Request) (any, error) {
		if err := decode(r, &Migrate{}); err != nil { // the server looks for the caller once the body was read
			t.Error(err)
		}
		close(called)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served, asked := make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { asked <- NewClient(socket).ask(ctx, http.MethodPost, "/", Migrate{}, new(string)) }()
	<-called
	cancel()
	<-ended
	if err := <-asked; err == nil || err.Error() != "interrupted" {
		t.Errorf("interrupted call: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A call that meets the server's limit is told so by the server, and not by the client's own.
func TestClientWaitsLongerThanTheServer(t *testing.T) {
	client := NewClient("")
	client.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		end, limited := r.Context().Deadline()
		if left := time.Until(end); !limited || left < timeout+5*time.Second {
			t.Errorf("%s: the client waits for %v, and the server for %v", r.URL.Path, left, timeout)
		}
		return nil, errors.New("no answer")
	})
	if _, err := client.Volumes(t.Context()); err == nil {
		t.Error("volumes without an answer")
	}
	if _, err := client.Metrics(t.Context()); err == nil {
		t.Error("metrics without an answer")
	}
}
