from django.db import models


class Order(models.Model):
    item = models.CharField(max_length=80)
    charged = models.BooleanField(default=False)
    made = models.DateTimeField(auto_now_add=True)
