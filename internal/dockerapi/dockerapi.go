// Package dockerapi serves Docker's volume plugin protocol.
//
// It is the only package that knows Docker. What the engine really sends, and
// which of our answers make it lose data, is written beside each rule here;
// the protocol itself is at https://docs.docker.com/engine/extend/plugins_volume/.
package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/docker/go-plugins-helpers/volume"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/volumes"
)

// Deadlines for calls. The engine gives up on Create and Mount after 2
// minutes and on the others after 1 (moby volume/drivers/proxy.go), and does
// not undo what it gave up on: so each call ends before, and undoes itself.
const (
	longCall  = 100 * time.Second
	shortCall = 50 * time.Second
)

// Volumes is what the protocol is served from.
type Volumes interface {
	Create(ctx context.Context, name string, options map[string]string) error
	Get(ctx context.Context, name string) (volumes.Volume, error)
	Names(ctx context.Context) ([]string, error)
	Remove(ctx context.Context, name string, engine *host.Process) error
	Mount(ctx context.Context, name, id string, engine host.Process) (string, error)
	Unmount(ctx context.Context, name, id string) error
}

var _ Volumes = (*volumes.Manager)(nil)

// Server answers a Docker engine's calls.
type Server struct {
	volumes Volumes
	log     *slog.Logger
	http    *http.Server
	calls   atomic.Uint64 // numbers the calls in the log
}

// New makes a Server.
func New(v Volumes, log *slog.Logger) *Server {
	s := &Server{volumes: v, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("/Plugin.Activate", s.plain(activate{Implements: []string{"VolumeDriver"}}))
	mux.HandleFunc("/VolumeDriver.Capabilities", s.plain(volume.CapabilitiesResponse{
		Capabilities: volume.Capability{Scope: "global"},
	}))
	mux.HandleFunc("/VolumeDriver.Create", handle(s, longCall, s.create))
	mux.HandleFunc("/VolumeDriver.Remove", handle(s, shortCall, s.remove))
	mux.HandleFunc("/VolumeDriver.Mount", handle(s, longCall, s.mount))
	mux.HandleFunc("/VolumeDriver.Unmount", handle(s, shortCall, s.unmount))
	mux.HandleFunc("/VolumeDriver.Path", handle(s, shortCall, s.path))
	mux.HandleFunc("/VolumeDriver.Get", handle(s, shortCall, s.get))
	mux.HandleFunc("/VolumeDriver.List", handle(s, shortCall, s.list))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, http.StatusNotFound, fmt.Errorf("dvold serves no call %.60q", r.URL.Path))
	})
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	// A connection for each call. On an idle one that a drain closes, the next
	// call would be lost with its body; a connection that is refused the engine
	// tries again, and has the body still.
	s.http.SetKeepAlivesEnabled(false)
	return s
}

// Serve answers calls until Shutdown. It closes l.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve Docker's calls: %w", err)
	}
	return nil
}

// Shutdown accepts no more calls and waits for those under way until ctx ends.
// A call that were cut off the engine would repeat with an empty body
// (moby#35459), which no plugin can answer.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("calls under way did not end in time: %w", err), s.http.Close())
	}
	return nil
}

// activate is the answer to Plugin.Activate.
type activate struct{ Implements []string }
