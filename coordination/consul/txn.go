package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// op is one operation of a Consul transaction.
type op struct {
	Verb    string
	Key     string
	Value   []byte `json:",omitempty"`
	Flags   uint64 `json:",omitempty"`
	Index   uint64 `json:",omitempty"`
	Session string `json:",omitempty"`
}

// outcome is the answer to a transaction. Without refusals all was done,
// otherwise nothing.
type outcome struct {
	results []pair // without values
	refused map[int]string
}

// txn attempts a transaction once. One that writes nothing is read consistently.
// A token that lacks a permission is a failure, though Consul answers in that
// case as if the transaction had been refused.
func (c *client) txn(ctx context.Context, ops []op) (outcome, *failure) {
	type kv struct{ KV op }
	body := make([]kv, len(ops))
	for i, o := range ops {
		body[i].KV = o
	}
	got, f := c.try(ctx, request{
		method: http.MethodPut,
		path:   "/v1/txn",
		query:  url.Values{"consistent": {""}},
		body:   body,
		limit:  txnTime,
		accept: []int{http.StatusConflict},
	})
	if f != nil {
		return outcome{}, f
	}
	var reply struct {
		Results []struct{ KV pair }
		Errors  []struct {
			OpIndex int
			What    string
		}
	}
	if err := json.Unmarshal(got.body, &reply); err != nil {
		return outcome{}, &failure{agent: "Consul", err: fmt.Errorf("read what Consul answers: %w", err)}
	}
	out := outcome{refused: make(map[int]string)}
	for _, r := range reply.Results {
		out.results = append(out.results, r.KV)
	}
	for _, refusal := range reply.Errors {
		if strings.Contains(refusal.What, "Permission denied") {
			return outcome{}, &failure{agent: "Consul", tokenFile: c.token.path, status: http.StatusForbidden,
				text: fmt.Sprintf("%s %s: %s", ops[refusal.OpIndex].Verb, ops[refusal.OpIndex].Key, refusal.What)}
		}
		out.refused[refusal.OpIndex] = refusal.What
	}
	return out, nil
}

// index returns the index at which key was written.
func (o outcome) index(key string) uint64 {
	for _, p := range o.results {
		if p.Key == key {
			return p.ModifyIndex
		}
	}
	return 0
}
