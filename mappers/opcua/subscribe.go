package opcua

import (
	"context"

	"github.com/skerry/skerry/mappers/opcua/channel"
)

type subscriptions struct {
	replies chan channel.Reply
	wake    chan struct{}
}

func (s *subscriptions) init() {
	s.replies = make(chan channel.Reply, 16)
	s.wake = make(chan struct{}, 1)
}

func (s *subscriptions) end(error) {}

func (c *client) published(context.Context, channel.Reply) {}
func (c *client) keepPublishing(context.Context)           {}
