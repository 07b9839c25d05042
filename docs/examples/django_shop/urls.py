"""The addresses of the shop."""

from django.urls import path

from django_shop import views

urlpatterns = [
    path("orders", views.accept),
    path("prices/<sku>", views.price),
]
