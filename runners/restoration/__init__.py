"""Restoration: pictures from measurements that are missing something of them."""
