// Package adminapi serves the operator's commands on a socket of their own,
// as JSON over HTTP, and is the client for it.
package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dvol/dvold/internal/migrate"
	"github.com/dvol/dvold/internal/volumes"
)

// Limits of a request.
const (
	maxBody = 1 << 20
	timeout = 2 * time.Minute
)

// Server answers operators.
type Server struct {
	volumes  *volumes.Manager
	migrator *migrate.Migrator
	metrics  *prometheus.Registry
	version  string
	log      *slog.Logger
	http     *http.Server
	closing  chan struct{} // closed by Shutdown
	close    func()
}

// New makes a Server.
func New(v *volumes.Manager, version string, log *slog.Logger) *Server {
	s := &Server{volumes: v, migrator: migrate.New(v, log), metrics: newMetrics(v, version), version: version, log: log, closing: make(chan struct{})}
	s.close = sync.OnceFunc(func() { close(s.closing) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/version", s.handle(s.getVersion))
	mux.HandleFunc("GET /v1/volumes", s.handle(s.listVolumes))
	mux.HandleFunc("POST /v1/volumes", s.handle(s.createVolume))
	mux.HandleFunc("GET /v1/volumes/{name}", s.handle(s.inspectVolume))
	mux.HandleFunc("PATCH /v1/volumes/{name}", s.handle(s.changeVolume))
	mux.HandleFunc("DELETE /v1/volumes/{name}", s.handle(s.removeVolume))
	mux.HandleFunc("POST /v1/volumes/{name}/release", s.handle(s.releaseVolume))
	mux.HandleFunc("POST /v1/volumes/{name}/resize", s.handle(s.resizeVolume))
	mux.HandleFunc("GET /v1/hosts", s.handle(s.listHosts))
	mux.HandleFunc("POST /v1/hosts/{name}/forget", s.handle(s.forgetHost))
	mux.HandleFunc("POST /v1/hosts/{name}/drain", s.handle(s.drainHost))
	mux.HandleFunc("POST /v1/hosts/{name}/undrain", s.handle(s.undrainHost))
	mux.HandleFunc("GET /v1/cluster", s.handle(s.getCluster))
	mux.HandleFunc("POST /v1/cluster/accept", s.handle(s.acceptCluster))
	mux.HandleFunc("GET /v1/pools", s.handle(s.listPools))
	mux.HandleFunc("POST /v1/pools/{name}/scan", s.handleLong(s.scanPool))
	mux.HandleFunc("GET /v1/trash", s.handle(s.listTrash))
	mux.HandleFunc("POST /v1/trash/{which}/restore", s.handle(s.restore))
	mux.HandleFunc("DELETE /v1/trash/{which}", s.handle(s.purge))
	mux.HandleFunc("GET /v1/docker-local", s.handleLong(s.listLocal))
	mux.HandleFunc("POST /v1/docker-local/{name}/migrate", s.handleLong(s.migrate))
	mux.HandleFunc("GET /metrics", s.getMetrics)
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s
}

// Serve answers requests until Shutdown. It closes l.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}

// Shutdown accepts no more requests and waits for those under way until ctx
// ends. Those without a deadline are told to end.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

type handler func(ctx context.Context, r *http.Request) (any, error)

// handle turns what a call returns into an answer.
func (s *Server) handle(call handler) http.HandlerFunc {
	return s.answer(func(ctx context.Context, r *http.Request) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return call(ctx, r)
	})
}

// handleLong is handle for a call that takes as long as it takes, but no
// longer than the caller waits and the server runs.
func (s *Server) handleLong(call handler) http.HandlerFunc {
	return s.answer(func(ctx context.Context, r *http.Request) (any, error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case <-s.closing:
				cancel(errClosing)
			case <-ctx.Done():
			}
		}()
		answer, err := call(ctx, r)
		if err != nil && errors.Is(context.Cause(ctx), errClosing) {
			err = fmt.Errorf("%w: %w", errClosing, err)
		}
		return answer, err
	})
}

var errClosing = errors.New("dvold is being stopped: repeat the command once it is back")

func (s *Server) answer(call handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		answer, err := call(r.Context(), r)
		status := http.StatusOK
		if err != nil {
			status, answer = statusOf(err), problem{err.Error()}
			s.log.Debug("operator's request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(answer)
	}
}

// problem is the answer to a request that failed.
type problem struct {
	Error string `json:"error"`
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, volumes.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, volumes.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, volumes.ErrMismatch), errors.Is(err, volumes.ErrInUse), errors.Is(err, volumes.ErrExists):
		return http.StatusConflict
	case errors.Is(err, volumes.ErrUnavailable):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
