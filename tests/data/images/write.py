"""Writes images of the kinds that ImageNet has, and what their pixels are by Pillow, which everybody's loader uses."""

from PIL import Image

colours = [(200, 40, 30), (30, 180, 60), (20, 50, 210), (240, 240, 235)]
image = Image.new("RGB", (32, 32))
for place, colour in enumerate(colours):
    image.paste(colour, (16 * (place % 2), 16 * (place // 2), 16 * (place % 2) + 16, 16 * (place // 2) + 16))
image.convert("CMYK").save("cmyk.JPEG", quality=95)
image.convert("L").save("gray.JPEG", quality=95)
image.save("png-by-content.JPEG", format="PNG")
image.convert("P").save("palette.png")
image.convert("LA").save("gray-alpha.png")

with open("pixels.txt", "w") as file:
    for name in ["cmyk.JPEG", "gray.JPEG", "png-by-content.JPEG", "palette.png", "gray-alpha.png"]:
        rgb = Image.open(name).convert("RGB")
        centres = [rgb.getpixel((8 + 16 * (place % 2), 8 + 16 * (place // 2))) for place in range(4)]
        file.write(name + " " + " ".join(",".join(map(str, centre)) for centre in centres) + "\n")
