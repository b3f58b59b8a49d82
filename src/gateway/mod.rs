//! The HTTP gateway: cookies and REST in, RPCs out.
