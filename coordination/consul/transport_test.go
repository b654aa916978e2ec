package consul_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

// What Consul's tools and library take from the environment changes nothing.
func TestEnvironment(t *testing.T) {
	cluster, cfg, set := withACL(t)
	for name, value := range map[string]string{
		"CONSUL_HTTP_ADDR":       "127.0.0.1:1",
		"CONSUL_HTTP_AUTH":       "user:password",
		"CONSUL_HTTP_SSL":        "true",
		"CONSUL_HTTP_SSL_VERIFY": "false",
		"CONSUL_NAMESPACE":       "another", // refused by Consul without namespaces
		"CONSUL_PARTITION":       "another",
		"CONSUL_CACERT":          "/nonexistent",
		"CONSUL_CLIENT_CERT":     "/nonexistent",
		"CONSUL_CLIENT_KEY":      "/nonexistent",
		"CONSUL_TLS_SERVER_NAME": "another",
		"HTTP_PROXY":             "127.0.0.1:1",
	} {
		t.Setenv(name, value)
	}
	set(cluster.NewToken("h1", minimal(t)))
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(cluster.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"CONSUL_HTTP_TOKEN":      cluster.Token, // which may do all
		"CONSUL_HTTP_TOKEN_FILE": path,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			none := cfg
			none.TokenFile = ""
			if _, err := open(t, none).Get(t.Context(), "a"); !errors.Is(err, coordination.ErrUnavailable) || !strings.Contains(err.Error(), "no token file is configured") {
				t.Errorf("without a token: got error %v", err)
			}
			session := join(t, open(t, cfg), "h1")
			r := commit(t, session, op)[0]
			commit(t, session, coordination.Delete(r))
			if err := session.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", "/nonexistent")
	join(t, open(t, cfg), "h1")
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	path := filepath.Join(t.TempDir(), "consul.sock")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	go func() {
		for {
			in, err := socket.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", cluster.Address(0))
			if err != nil {
				_ = in.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}
			go pass(in, out)
			go pass(out, in)
		}
	}()
	cfg := config(cluster)
	cfg.Addresses = []string{"unix://" + path}
	store := open(t, cfg)
	r := commit(t, join(t, store, "h1"), op)[0]
	if got, err := store.Get(t.Context(), "a"); err != nil || got.Version != r.Version {
		t.Errorf("got %+v, %v, want %+v", got, err, r)
	}
}

// An agent's address that redirects elsewhere is an error, and nothing, least
// of all a token, goes there.
func TestRedirect(t *testing.T) {
	t.Parallel()
	var went atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { went.Add(1) }))
	defer elsewhere.Close()
	cfg := config(&consultest.Cluster{})
	for _, status := range []int{http.StatusMovedPermanently, http.StatusTemporaryRedirect} {
		agent := httptest.NewServer(http.RedirectHandler(elsewhere.URL, status))
		defer agent.Close()
		cfg.Addresses = []string{agent.Listener.Addr().String()}
		store := open(t, cfg)
		if _, err := store.Get(t.Context(), "a"); !errors.Is(err, coordination.ErrUnavailable) {
			t.Errorf("status %d: Get: got error %v", status, err)
		}
		if _, err := store.Join(t.Context(), coordination.Host{Name: "h1", ID: "1"}); !errors.Is(err, coordination.ErrUnavailable) {
			t.Errorf("status %d: Join: got error %v", status, err)
		}
	}
	if went.Load() != 0 {
		t.Errorf("%d requests went elsewhere", went.Load())
	}
}
