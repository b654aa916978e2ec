package main

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/dvol/dvold/internal/migrate"
)

// The daemon looks into each local volume to list them, and through all
// processes for each: who names one does not wait for that.
func TestMigrateListsOnlyForAllAndDryRun(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("unix", w.path("admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/docker-local", func(rw http.ResponseWriter, _ *http.Request) {
		asked = append(asked, "list")
		json.NewEncoder(rw).Encode([]migrate.Local{{Name: "data"}, {Name: "there", Exists: true}, {Name: "0a", Anonymous: true}})
	})
	mux.HandleFunc("POST /v1/docker-local/{name}/migrate", func(rw http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.PathValue("name"))
		json.NewEncoder(rw).Encode(migrate.Result{Name: r.PathValue("name"), Pool: "p"})
	})
	server := &http.Server{Handler: mux}
	t.Cleanup(func() { server.Close() })
	go server.Serve(l)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"data", "other"}, []string{"data", "other"}},
		{[]string{"--all"}, []string{"list", "data"}},
		{[]string{"--all", "--dry-run"}, []string{"list"}},
		{[]string{"data", "--dry-run"}, []string{"list"}},
	} {
		asked = nil
		w.want("data", append([]string{"migrate", "docker-local"}, c.args...)...)
		if !slices.Equal(asked, c.want) {
			t.Errorf("migrate docker-local %v asked for %v, want %v", c.args, asked, c.want)
		}
	}
}
