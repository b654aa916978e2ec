package consul_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

// wantSuspect waits until Hosts says so of a host, and that it is live.
func wantSuspect(t *testing.T, store *consul.Store, name string, want bool) (took time.Duration) {
	t.Helper()
	began := time.Now()
	for ; ; time.Sleep(50 * time.Millisecond) {
		hosts, err := store.Hosts(t.Context())
		if err != nil {
			t.Fatalf("Hosts: %v", err)
		}
		for _, h := range hosts {
			if !h.Live || h.Suspect && h.Name != name {
				t.Fatalf("got %+v", h)
			}
			if h.Name == name && h.Suspect == want {
				return time.Since(began)
			}
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("Hosts: got %+v, want one whose Suspect is %t", hosts, want)
		}
	}
}

// node is the node that a host's entry names.
func node(t *testing.T, cluster *consultest.Cluster, cfg consul.Config, name string) string {
	t.Helper()
	var value []byte
	cluster.Must(http.MethodGet, "/v1/kv/"+cfg.Prefix+"/hosts/"+name+"?raw", nil, &value)
	var entry struct{ Node string }
	if err := json.Unmarshal(value, &entry); err != nil {
		t.Fatal(err)
	}
	return entry.Node
}

// A host whose agent is gone is suspect, and so only for who may know, of those
// that told their node.
func TestSuspect(t *testing.T) {
	t.Parallel()
	cluster, cfg, _ := withACL(t)
	cfg.TTL = 5 * time.Minute // it stays live without its agent
	// host joins, through an agent of its own or, without one, through the server.
	host := func(name, rules string, agent *consultest.Agent) *consul.Store {
		own := cfg
		if agent != nil {
			own.Addresses = []string{agent.Address()}
		}
		own.TokenFile = filepath.Join(t.TempDir(), "token")
		writeToken(t, own.TokenFile, cluster.NewToken(name, strings.NewReplacer("dvol-h1", "dvol-"+name, `"h1"`, `"`+name+`"`).Replace(rules)))
		store := open(t, own)
		join(t, store, name)
		return store
	}
	agents := map[string]*consultest.Agent{"h1": cluster.StartAgent("h1"), "h2": cluster.StartAgent("h2")}
	full := host("h1", whole(t), agents["h1"])
	host("h2", whole(t), agents["h2"])
	least := host("h3", minimal(t), agents["h1"])
	for name, want := range map[string]string{"h1": "h1", "h2": "h2", "h3": ""} {
		if got := node(t, cluster, cfg, name); got != want {
			t.Errorf("the entry of %s has node %q, want %q", name, got, want)
		}
	}
	wantSuspect(t, full, "h2", false)

	agents["h2"].Kill()
	t.Logf("suspect %v after its agent was killed", wantSuspect(t, full, "h2", true))
	wantSuspect(t, least, "h2", false)
	agents["h2"].Restart()
	wantSuspect(t, full, "h2", false)
}

// The agent of another machine tells nothing of this one.
func TestAgentOnAnotherMachine(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	server := &url.URL{Scheme: "http", Host: cluster.Address(0)}
	for name, answer := range map[string]string{
		"elsewhere":     `{"Config": {"NodeName": "n"}, "Member": {"Addr": "192.0.2.1"}}`,
		"no-address":    `{"Config": {"NodeName": "n"}, "Member": {}}`,
		"no-name":       `{"Member": {"Addr": "127.0.0.1"}}`,
		"no-answer":     `soon`,
		"this-very-one": "",
	} {
		through := httputil.NewSingleHostReverseProxy(server)
		agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/agent/self" && answer != "" {
				_, _ = w.Write([]byte(answer))
				return
			}
			through.ServeHTTP(w, r)
		}))
		t.Cleanup(func() {
			agent.CloseClientConnections()
			agent.Close()
		})
		cfg := config(cluster)
		cfg.Addresses = []string{strings.TrimPrefix(agent.URL, "http://")}
		store := open(t, cfg)
		join(t, store, name)
		want := ""
		if answer == "" {
			want = "server0"
		}
		if got := node(t, cluster, cfg, name); got != want {
			t.Errorf("%s: node %q, want %q", name, got, want)
		}
		if hosts, err := store.Hosts(t.Context()); err != nil || len(hosts) != 1 || hosts[0].Suspect {
			t.Errorf("%s: Hosts: %+v, %v", name, hosts, err)
		}
	}
}

// Hosts lists who is there even if nothing is to be learned of their health.
func TestHostsWithoutHealth(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	proxy := consultest.StartProxy(t, cluster.Address(0))
	cfg := config(cluster)
	cfg.Addresses = []string{proxy.Address()}
	store := open(t, cfg)
	join(t, store, "h1")
	var asked atomic.Int64
	proxy.Meddle(nil, func(path string) bool {
		if strings.HasPrefix(path, "/v1/health/") {
			asked.Add(1)
			return false
		}
		return true
	})
	if h := hostOf(t, store); !h.Live || h.Suspect {
		t.Errorf("got %+v", h)
	}
	if asked.Load() == 0 {
		t.Error("nobody asked for its health; this tests nothing")
	}
}
