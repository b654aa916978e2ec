package consul_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

// Who was deposed as leader, and does not know, renews sessions that another
// leader has ended. No such renewal counts: the host believes in its session
// for less than a TTL after its end.
func TestRenewalOfWhatEnded(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	cfg := config(cluster)
	var deposed atomic.Bool
	var renewals atomic.Int64
	through := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: cluster.Address(0)})
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch id, renew := strings.CutPrefix(r.URL.Path, "/v1/session/renew/"); {
		case deposed.Load() && renew:
			renewals.Add(1)
			_, _ = w.Write([]byte(`[{"ID": "` + id + `"}]`))
		case r.URL.Query().Get("index") != "": // nobody hears of changes
			<-r.Context().Done()
		default:
			through.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		agent.CloseClientConnections()
		agent.Close()
	})
	through.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	cfg.Addresses = []string{strings.TrimPrefix(agent.URL, "http://")}
	session := join(t, open(t, cfg), "h1")
	<-session.Renewed()
	deposed.Store(true)
	<-session.Renewed()
	if renewals.Load() == 0 {
		t.Error("its renewal of what lives does not count; this tests nothing")
	}
	cluster.Must(http.MethodPut, "/v1/session/destroy/"+holder(t, cluster, cfg), nil, nil)
	ended, before := consul.BootTime(), renewals.Load()
	wantEnd(t, session, cfg.TTL)
	if got := session.Deadline(); got >= ended+cfg.TTL {
		t.Errorf("believed in for %v after its end, with a TTL of %v", got-ended, cfg.TTL)
	}
	if renewals.Load() == before {
		t.Error("it was not asked again; this tests nothing")
	}
}
