package dockerapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/docker/go-plugins-helpers/sdk"
	"github.com/docker/go-plugins-helpers/volume"

	"github.com/dvol/dvold/internal/volumes"
)

const (
	maxBody  = 1 << 20          // the engine passes on whatever it is given
	bodyTime = 30 * time.Second // for the peer to send it, and to take the answer
)

var (
	// errUnanswerable drops the connection instead of answering.
	errUnanswerable = errors.New("no answer is better than a wrong one")
	// errEmptyBody is met when the engine repeats a call whose connection it
	// lost: it sends its used-up body again (moby#35459).
	errEmptyBody = errors.New("the request is empty: dvold was restarted while the engine waited for it; try again")
	// errUnread is met when the request did not arrive in whole.
	errUnread = errors.New("read the request")
)

// undoable is an answer whose deed must be undone if the engine doesn't get it.
type undoable struct {
	answer any
	undo   func(context.Context) error
}

// handle makes the handler of a call that takes a Req, has limit to end, and
// is cancelled when the engine hangs up. Of a Get that it can't make, the engine
// is told nothing: see get.
func handle[Req any](s *Server, limit time.Duration, call func(context.Context, Req) (any, error)) http.HandlerFunc {
	_, isGet := any(*new(Req)).(volume.GetRequest)
	return func(w http.ResponseWriter, r *http.Request) {
		began, number := time.Now(), s.calls.Add(1)
		log := s.log.With("call", r.URL.Path, "number", number, "engine", peer(r.Context()).PID)
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				log.Error("call panicked", "panic", p, "stack", string(debug.Stack()))
				if isGet {
					panic(http.ErrAbortHandler)
				}
				s.fail(w, http.StatusInternalServerError, errors.New("internal error, see dvold's log"))
			}
		}()
		if r.Method != http.MethodPost {
			s.fail(w, http.StatusMethodNotAllowed, fmt.Errorf("use POST, not %.10s", r.Method))
			return
		}
		var req Req
		control := http.NewResponseController(w)
		control.SetReadDeadline(began.Add(bodyTime))
		control.SetWriteDeadline(began.Add(limit + bodyTime))
		if err := decode(http.MaxBytesReader(w, r.Body, maxBody), &req); err != nil {
			log.Warn("call was not understood", "err", err)
			if isGet && (errors.Is(err, errEmptyBody) || errors.Is(err, errUnread)) {
				panic(http.ErrAbortHandler)
			}
			s.fail(w, http.StatusBadRequest, err)
			return
		}
		control.SetReadDeadline(time.Time{}) // from here on a failed read means that the peer left
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		answer, err := call(ctx, req)
		if err != nil {
			if !errors.Is(err, volumes.ErrNotFound) { // which the engine asks for before each Create
				log.Warn("call failed", "took", time.Since(began), "err", err)
			}
			if errors.Is(err, errUnanswerable) {
				panic(http.ErrAbortHandler)
			}
			s.fail(w, http.StatusInternalServerError, err)
			return
		}
		log.Debug("call answered", "took", time.Since(began))
		u, ok := answer.(undoable)
		if ok {
			answer = u.answer
		}
		if err := s.answer(w, http.StatusOK, answer); err != nil && ok {
			log.Warn("answer did not reach the engine and is undone", "err", err)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), shortCall)
			defer cancel()
			if err := u.undo(ctx); err != nil {
				log.Error("answer was not undone", "err", err)
			}
		}
	}
}

// plain makes the handler of a call whose answer never changes. It must be
// quick and true whatever happens: the engine waits for it without a limit.
func (s *Server) plain(answer any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			s.fail(w, http.StatusMethodNotAllowed, fmt.Errorf("use POST, not %.10s", r.Method))
			return
		}
		s.answer(w, http.StatusOK, answer)
	}
}

// decode reads one JSON object, which names a volume, and nothing after it. A
// Req without fields takes no argument, and any body.
func decode(body io.Reader, req any) error {
	text, err := io.ReadAll(body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fmt.Errorf("the request is longer than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnread, err)
	}
	fields := reflect.ValueOf(req).Elem()
	if fields.NumField() == 0 {
		return nil
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return errEmptyBody
	}
	if err := json.Unmarshal(text, req); err != nil {
		return fmt.Errorf("the request is not what Docker sends: %w", err)
	}
	if fields.FieldByName("Name").String() == "" {
		return errors.New("the request is not what Docker sends: it names no volume")
	}
	return nil
}

// fail answers with an error; its text is what the engine's user sees, on one
// line of a terminal.
func (s *Server) fail(w http.ResponseWriter, status int, err error) {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	s.answer(w, status, volume.NewErrorResponse(text))
}

// answer returns an error if the peer can't have got it.
func (s *Server) answer(w http.ResponseWriter, status int, answer any) error {
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", sdk.DefaultContentTypeV1_1)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if _, err := w.Write(text); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
