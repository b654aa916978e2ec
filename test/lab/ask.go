package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// AskConsul asks the Consul on m: its HTTP API, by the path below /v1.
func (m *Machine) AskConsul(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1:8500/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := m.httpClient().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return text, err
}

// RecordKeys are those of dvold's records that begin with a prefix, in the Consul on m;
// one that ends in a slash is none.
func (m *Machine) RecordKeys(ctx context.Context, prefix string) ([]string, error) {
	text, err := m.AskConsul(ctx, http.MethodGet, "kv/dvol/?keys&consistent", nil)
	if err != nil {
		return nil, err
	}
	var all []string
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(key string) bool {
		return !strings.HasPrefix(key, "dvol/records/"+prefix) || strings.HasSuffix(key, "/")
	}), nil
}

// SessionOf is the ID of the session that a host is in the cluster by, in the Consul on
// m; empty means that there is none.
func (m *Machine) SessionOf(ctx context.Context, host string) (string, error) {
	text, err := m.AskConsul(ctx, http.MethodGet, "kv/dvol/?recurse&consistent", nil)
	if err != nil {
		return "", err
	}
	var found []struct{ Key, Session string }
	if err := json.Unmarshal(text, &found); err != nil {
		return "", err
	}
	for _, f := range found {
		if strings.HasSuffix(f.Key, "/hosts/"+host) && f.Session != "" {
			return f.Session, nil
		}
	}
	return "", nil
}
