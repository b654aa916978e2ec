package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/consul/api"
)

// outcome is the answer to a transaction. Without refusals all was done,
// otherwise nothing.
type outcome struct {
	results api.TxnResults // without values
	refused map[int]string
}

// txn attempts a transaction once. One that writes nothing is read consistently.
// A token that lacks a permission is a failure, though Consul answers in that
// case as if the transaction had been refused.
func (c *client) txn(ctx context.Context, ops api.KVTxnOps) (outcome, *failure) {
	txn := make(api.TxnOps, len(ops))
	for i, o := range ops {
		txn[i] = &api.TxnOp{KV: o}
	}
	var reply *api.TxnResponse
	if f := c.try(ctx, txnTime, func(consul *api.Client, q *api.QueryOptions) error {
		q.RequireConsistent = true
		ok, got, _, err := consul.Txn().Txn(txn, q)
		if err == nil && ok != (len(got.Errors) == 0) {
			err = errors.New("a transaction refused without errors, or done with some")
		}
		reply = got
		return err
	}); f != nil {
		return outcome{}, f
	}
	out := outcome{results: reply.Results, refused: make(map[int]string)}
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
	for _, r := range o.results {
		if r.KV != nil && r.KV.Key == key {
			return r.KV.ModifyIndex
		}
	}
	return 0
}
