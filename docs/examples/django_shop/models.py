"""What the shop stores."""

from django.db import models


class Order(models.Model):
    """An order, and whether its message is published."""

    id = models.CharField(primary_key=True, max_length=40)
    sku = models.CharField(max_length=40)
    amount = models.PositiveIntegerField()
    published = models.BooleanField(default=False)
