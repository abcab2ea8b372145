"""A small network of ResNet's kinds of layers, for tests that need a real model but not its size."""

from torch import nn


class Block(nn.Module):
    """Two convolutions with batch norm and a shortcut."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class TinyResNet(nn.Module):
    """Stem, one block, a strided convolution, global pooling and a last layer with ImageNet's 1000 outputs."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, stride=4, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.block = Block(16)
        self.conv2 = nn.Conv2d(16, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, 1000)

    def forward(self, x):
        x = self.block(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        x = self.avgpool(self.relu(self.bn2(self.conv2(x))))
        return self.fc(x.flatten(1))


def tiny_resnet():
    """The architecture `support.tiny.tiny_resnet` of the tests' configs."""
    return TinyResNet()
