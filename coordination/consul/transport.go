package consul

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
)

// exchange is what became of one request, as far as the library does not say.
type exchange struct {
	wrote  atomic.Bool // an agent may have got the request
	status int         // if it was not 200
	text   string      // with that status
}

type exchangeKey struct{}

// transport notes each exchange, which it finds in the request's context.
type transport struct{ *http.Transport }

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	seen := req.Context().Value(exchangeKey{}).(*exchange)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{WroteHeaders: func() { seen.wrote.Store(true) }}))
	u := *req.URL
	query := u.Query()
	query.Del("ns") // only the environment can have put these there
	query.Del("partition")
	u.RawQuery = query.Encode()
	req.URL = &u
	resp, err := t.Transport.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	seen.status, seen.text = resp.StatusCode, strings.TrimSpace(string(text))
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}
