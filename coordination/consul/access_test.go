package consul_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

// withACL returns a Config for a cluster that denies what acl.hcl does not
// allow, and a function that puts another token into its file.
func withACL(t *testing.T) (*consultest.Cluster, consul.Config, func(token string)) {
	t.Helper()
	cluster := consultest.Start(t, consultest.Options{ACL: true})
	cfg := consul.DefaultConfig()
	cfg.Addresses = cluster.Addresses()
	cfg.TokenFile = filepath.Join(t.TempDir(), "token")
	set := func(token string) {
		t.Helper()
		writeToken(t, cfg.TokenFile, token)
	}
	return cluster, cfg, set
}

func writeToken(t *testing.T, file, token string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// whole is acl.hcl.
func whole(t *testing.T) string {
	t.Helper()
	rules, err := os.ReadFile("acl.hcl")
	if err != nil {
		t.Fatal(err)
	}
	return string(rules)
}

// minimal is acl.hcl without what is optional.
func minimal(t *testing.T) string {
	t.Helper()
	rules, _, ok := strings.Cut(whole(t), "\n# Optional")
	if !ok {
		t.Fatal("acl.hcl has no optional part")
	}
	return rules
}

// The first part of acl.hcl is enough for everything, and for this prefix and host alone.
func TestPolicy(t *testing.T) {
	t.Parallel()
	cluster, cfg, set := withACL(t)
	set(cluster.NewToken("h2", strings.ReplaceAll(minimal(t), "dvol-h1", "dvol-h2")))
	store := open(t, cfg)
	left := join(t, store, "h2")
	commit(t, left, op)
	if err := left.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	set(cluster.NewToken("h1", minimal(t)))
	first := join(t, store, "h1")
	session := join(t, store, "h1")
	wantEnd(t, first, soon)
	commit(t, session, coordination.Check(coordination.Record{Key: "none"}))
	hosts, err := store.Hosts(t.Context())
	if err != nil || len(hosts) != 2 || hosts[0].Suspect || hosts[1].Suspect {
		t.Fatalf("Hosts: %+v, %v", hosts, err)
	}
	if err := session.Forget(t.Context(), hosts[1]); err != nil {
		t.Errorf("Forget: %v", err)
	}
	if keys, err := store.Keys(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("Keys: %q, %v", keys, err)
	}
	for records, err := range store.Watch(t.Context(), "") {
		if err != nil || len(records) != 1 {
			t.Errorf("Watch: %v, %v", records, err)
		}
		break
	}
	if records, err := store.List(t.Context(), "none/"); err != nil || len(records) != 0 {
		t.Errorf("List of nothing: %v, %v", records, err)
	}
	_, err = store.Join(t.Context(), coordination.Host{Name: "h2", ID: "2"})
	wantDenied(t, "Join as another host", cfg, err)
	if err := session.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}

	cfg.Prefix = "other"
	other := open(t, cfg)
	_, err = other.Get(t.Context(), "a")
	wantDenied(t, "Get", cfg, err)
	_, err = other.List(t.Context(), "")
	wantDenied(t, "List", cfg, err)
	_, err = other.Keys(t.Context(), "")
	wantDenied(t, "Keys", cfg, err)
	_, err = other.Hosts(t.Context())
	wantDenied(t, "Hosts", cfg, err)
	_, err = other.Join(t.Context(), coordination.Host{Name: "h1", ID: "1"})
	wantDenied(t, "Join", cfg, err)
	for _, err := range other.Watch(t.Context(), "") {
		wantDenied(t, "Watch", cfg, err)
		break
	}
}

// wantDenied fails the test unless err tells an operator which token to mend,
// without showing it.
func wantDenied(t *testing.T, what string, cfg consul.Config, err error) {
	t.Helper()
	if !errors.Is(err, coordination.ErrUnavailable) || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), cfg.TokenFile) {
		t.Errorf("%s: got error %v, want one about %s", what, err, cfg.TokenFile)
		return
	}
	token, readErr := os.ReadFile(cfg.TokenFile)
	if readErr != nil || strings.Contains(err.Error(), strings.TrimSpace(string(token))) {
		t.Errorf("%s: the error shows the token (%v)", what, readErr)
	}
}

// A token is replaced while a session lives; one that allows too little is
// told of, and so is a file that is gone.
func TestTokenReplaced(t *testing.T) {
	t.Parallel()
	cluster, cfg, set := withACL(t)
	set(cluster.NewToken("old", minimal(t)))
	store := open(t, cfg)
	session := join(t, store, "h1")
	set(cluster.NewToken("new", minimal(t)))
	commit(t, session, op)

	set(cluster.NewToken("reader", `key_prefix "dvol/" { policy = "read" }`))
	if _, err := store.Get(t.Context(), "a"); err != nil {
		t.Errorf("Get with a token that may read: %v", err)
	}
	change := coordination.Put(coordination.Record{Key: "b"})
	_, err := session.Commit(t.Context(), change)
	wantDenied(t, "Commit", cfg, err)
	set("00000000-0000-4000-8000-000000000009")
	_, err = session.Commit(t.Context(), change)
	wantDenied(t, "Commit with a token that is none", cfg, err)
	if err := os.Remove(cfg.TokenFile); err != nil {
		t.Fatal(err)
	}
	if _, err = session.Commit(t.Context(), change); !errors.Is(err, coordination.ErrUnavailable) || !strings.Contains(err.Error(), cfg.TokenFile) {
		t.Errorf("Commit without a token file: got error %v", err)
	}
	set(cluster.NewToken("newest", minimal(t)))
	commit(t, session, change)
	if err := session.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{TLS: true})
	for name, c := range map[string]struct {
		tls consul.TLS
		ok  bool
	}{
		"the CA":           {consul.TLS{CAFile: cluster.CAFile}, true},
		"the name":         {consul.TLS{CAFile: cluster.CAFile, ServerName: "server.dc1.consul"}, true},
		"another name":     {consul.TLS{CAFile: cluster.CAFile, ServerName: "server.dc2.consul"}, false},
		"the system's CAs": {consul.TLS{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(cluster)
			cfg.TLS = c.tls
			store := open(t, cfg)
			hosts, err := store.Hosts(t.Context())
			if c.ok != (err == nil) || !c.ok && !errors.Is(err, coordination.ErrUnavailable) {
				t.Errorf("Hosts: %v, %v", hosts, err)
			}
			if c.ok {
				commit(t, join(t, store, "h1"), op)
			}
		})
	}
}
