package enroll

import (
	"fmt"
	"time"

	"github.com/skerry/skerry/firmware/wire/join"
)

// Refusals, each with the remedy as the operator would type it.

// busy is a refusal that says when to come again.
type busy struct {
	*join.Refusal
	after time.Duration
}

func (b *busy) Unwrap() error { return b.Refusal }

func refuse(code join.Code, remedy, format string, args ...any) *join.Refusal {
	return &join.Refusal{Code: code, Message: fmt.Sprintf(format, args...), Remedy: remedy}
}

func createAnother(node string) string {
	return fmt.Sprintf("create another with `skerryctl token create --node %s`", node)
}

func refuseUnknown() *join.Refusal {
	return refuse(join.CodeUnknownToken, "create one with `skerryctl token create --node NAME`, on this relay's cluster",
		"the join token is not known: it was deleted, altered, or belongs to another installation")
}

func refuseExpired(t TokenInfo) *join.Refusal {
	return refuse(join.CodeExpired, createAnother(t.Node), "the join token %s expired at %s by the relay's clock", t.ID, t.Expires.UTC().Format(time.RFC3339))
}

func refuseWrongNode(of, asked string) *join.Refusal {
	return refuse(join.CodeWrongNode, createAnother(asked), "the join token is for node %q, not for %q", of, asked)
}

func refuseUsed(t TokenInfo) *join.Refusal {
	return refuse(join.CodeUsed, createAnother(t.Node)+"; if nobody should have used it, revoke the node first",
		"the join token %s was used by another key at %s: by another machine, or by this gateway before its identity folder was lost", t.ID, t.BoundAt.UTC().Format(time.RFC3339))
}

func refuseRevoked(node string) *join.Refusal {
	return refuse(join.CodeRevoked, fmt.Sprintf("if it shall join again, run `skerryctl node restore %[1]s` first, then join with a new token from `skerryctl token create --node %[1]s`", node), "node %q is revoked", node)
}
