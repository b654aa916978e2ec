package scale_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
)

// model is the volume whose record is copied.
const model = "model-volume"

func volumeKey(name string) string {
	return fmt.Sprintf("dvol/records/volumes/%02x/%s", sha256.Sum256([]byte(name))[0], name)
}

// load puts records of volumes into Consul, from number first to below end,
// quicker than dvold could make them. They have no data.
func (f *fleet) load(first, end int) {
	f.Helper()
	const inOne = 60
	if err := f.hosts[0].Create(f.Context(), model, nil); err != nil {
		f.Fatal(err)
	}
	var value []byte
	f.consul.Must(http.MethodGet, "/v1/kv/"+volumeKey(model)+"?raw", nil, &value)
	for ; first < end; first += inOne {
		var changes []any
		for i := first; i < min(first+inOne, end); i++ {
			name := fmt.Sprintf("loaded-%06d", i)
			changes = append(changes, set(volumeKey(name), strings.ReplaceAll(string(value), model, name)))
		}
		f.consul.Must(http.MethodPut, "/v1/txn", changes, nil)
	}
}

// set is an operation of a transaction in Consul.
func set(key, value string) any {
	type kv struct {
		Verb, Key string
		Value     []byte
	}
	return map[string]any{"KV": kv{"set", key, []byte(value)}}
}
