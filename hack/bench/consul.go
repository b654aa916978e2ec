package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// agent calls a Consul agent, as plainly as can be: what it takes is the
// baseline for what dvold does with the same agent.
type agent struct{ *client }

// get reads a key, consistently, as dvold does.
func (a agent) get(ctx context.Context, key string) error {
	return a.do(ctx, http.MethodGet, "/v1/kv/"+key+"?"+consistent, nil)
}

func (a agent) put(ctx context.Context, key string) error {
	return a.do(ctx, http.MethodPut, "/v1/kv/"+key, string(someValue))
}

// How true a list is to be.
const (
	stale      = "stale" // as any server has it
	consistent = "consistent"
)

// keys lists the keys of records that begin with prefix: one that ends in a slash
// is none.
func (a agent) keys(ctx context.Context, prefix, mode string) (keys []string, err error) {
	err = a.read(ctx, prefix+"?keys&"+mode, &keys)
	return slices.DeleteFunc(keys, func(key string) bool { return strings.HasSuffix(key, "/") }), err
}

// pairs lists the records that begin with prefix.
func (a agent) pairs(ctx context.Context, prefix string) (pairs []pair, err error) {
	err = a.read(ctx, prefix+"?recurse", &pairs)
	return pairs, err
}

type pair struct {
	Key   string
	Value []byte
}

// read reads what may not exist.
func (a agent) read(ctx context.Context, path string, into any) error {
	status, text, err := a.ask(ctx, http.MethodGet, "/v1/kv/"+path, nil)
	switch {
	case err != nil:
		return err
	case status == http.StatusNotFound:
		return nil
	case status != http.StatusOK:
		return fmt.Errorf("%s answers %d: %.200s", path, status, text)
	}
	return json.Unmarshal(text, into)
}

// failed returns nil once Consul has found that a node's agent is down.
func (a agent) failed(ctx context.Context, node string) error {
	var checks []struct{ CheckID, Status string }
	if err := a.look(ctx, "/v1/health/node/"+node, &checks); err != nil {
		return err
	}
	for _, c := range checks {
		if c.CheckID == "serfHealth" && c.Status == "critical" {
			return nil
		}
	}
	return fmt.Errorf("node %s is taken for well", node)
}

// sessionless returns nil once a node has no session.
func (a agent) sessionless(ctx context.Context, node string) error {
	var sessions []json.RawMessage
	if err := a.look(ctx, "/v1/session/node/"+node, &sessions); err != nil {
		return err
	}
	if len(sessions) > 0 {
		return fmt.Errorf("%s has a session", node)
	}
	return nil
}

// look reads what may be empty.
func (a agent) look(ctx context.Context, path string, into any) error {
	status, text, err := a.ask(ctx, http.MethodGet, path, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s answers %d: %.200s", path, status, text)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// change is one of the changes of a transaction.
type change struct {
	Verb  string // set or delete
	Key   string
	Value []byte `json:",omitempty"`
}

// transact makes all changes in one transaction.
func (a agent) transact(ctx context.Context, changes ...change) error {
	type kv struct{ KV change }
	body := make([]kv, len(changes))
	for i, c := range changes {
		body[i].KV = c
	}
	return a.do(ctx, http.MethodPut, "/v1/txn", body)
}

// someValue is as long as a record of dvold.
var someValue = []byte(strings.Repeat("x", 400))

// pair is two transactions, as those of a mount and an unmount: two keys come
// and go.
func (a agent) pair(ctx context.Context, key string) error {
	if err := a.transact(ctx, change{"set", key + "/a", someValue}, change{"set", key + "/b", someValue}); err != nil {
		return err
	}
	return a.transact(ctx, change{"delete", key + "/a", nil}, change{"delete", key + "/b", nil})
}
