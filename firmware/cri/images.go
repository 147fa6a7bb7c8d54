package cri

import "context"

// ListImages returns the images that the runtime holds, or the one that image names.
func (c *Client) ListImages(ctx context.Context, filter *ImageFilter) ([]Image, error) {
	var resp ListImagesResponse
	err := c.image(ctx, "ListImages", &ListImagesRequest{filter}, &resp)
	return resp.Images, err
}

// ImageStatus returns an image; Image is nil in the answer if the runtime does not hold it.
func (c *Client) ImageStatus(ctx context.Context, image *ImageSpec, verbose bool) (*ImageStatusResponse, error) {
	resp := new(ImageStatusResponse)
	return result(resp, c.image(ctx, "ImageStatus", &ImageStatusRequest{image, verbose}, resp))
}

// PullImage pulls an image and returns the reference by which containers are to use it. auth and sandbox may be nil. Only ctx
// limits it: a large image over a slow line takes long. ErrNotFound says that the registry has no such image.
func (c *Client) PullImage(ctx context.Context, image *ImageSpec, auth *AuthConfig, sandbox *PodSandboxConfig) (string, error) {
	var resp PullImageResponse
	err := c.unbounded(ctx, imageService, "PullImage", &PullImageRequest{image, auth, sandbox}, &resp)
	return resp.ImageRef, err
}

// RemoveImage removes an image with all its tags. Idempotent.
func (c *Client) RemoveImage(ctx context.Context, image *ImageSpec) error {
	return c.image(ctx, "RemoveImage", &RemoveImageRequest{image}, &RemoveImageResponse{})
}

// ImageFsInfo returns the use of the file systems that hold images and containers.
func (c *Client) ImageFsInfo(ctx context.Context) (*ImageFsInfoResponse, error) {
	resp := new(ImageFsInfoResponse)
	return result(resp, c.image(ctx, "ImageFsInfo", &ImageFsInfoRequest{}, resp))
}

func (c *Client) image(ctx context.Context, method string, req, resp Message) error {
	return c.unary(ctx, imageService, method, 0, req, resp)
}
