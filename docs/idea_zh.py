# %% [markdown]
# # 转置卷积：从 4x16 的矩阵讲起
#
# [English](idea.py)
#
# 卷积把图像变小；*转置卷积*（transposed convolution）反过来，用一个可以学习的卷积
# 核把图像变大。本页用很小的整数说明它究竟算了什么，每个结果都可以自己手算验证。整页
# 就是一个程序：下面的数字和插图都是它的输出，每次生成页面时都会检查其中的 `assert`。

# %% idea.py: setup

# %% [markdown]
# ## 卷积：4x4 的图像、3x3 的卷积核，得到 2x2
#
# 3x3 的卷积核 `w` 在 4x4 的图像 `x` 上滑动，不做填充，一共有 2x2 个位置。在每个位置
# 上，卷积核盖住的九个数分别乘以九个权重，再相加。这是一种“多对一”的关系：九个数变成
# 一个数。

# %% idea.py: convolution

# %% [markdown]
# ## 同一件事写成矩阵：C 的大小是 4x16
#
# 把图像按行展平（flatten），写成 16 个数的列向量。四个输出中的每一个，都是这 16 个数
# 的加权和。所以卷积就是一个 4 行 16 列的矩阵 `C`：每一行在卷积核所在的位置放九个权
# 重，其余位置都是零。展平后的输出就是 `C @ x`。

# %% idea.py: matrix

# %% [markdown]
# 红框标出了第一个输出、它用到的九个像素，以及矩阵 C 中负责计算它的那一行。
#
# ## 反方向：C 的转置
#
# C 把 16 个数变成 4 个数。它的转置 Cᵀ 是 16x4 的矩阵，把 4 个数变成 16 个数：从粗的
# 2x2 网格回到细的 4x4 网格。左乘 Cᵀ *就是*转置卷积，名字也由此而来。实际计算时并不需
# 要构造矩阵，正如普通卷积也不需要；矩阵只是帮助我们看清发生了什么。

# %% idea.py: transpose

# %% [markdown]
# ## 一对九
#
# 卷积把九个细网格上的数汇成一个数；转置卷积沿着同样的连接反着走，每个粗网格上的数通
# 向九个细网格位置。换句话说，每个输入值乘以整个卷积核，像图章一样盖在细网格上；图章
# 重叠的地方相加。

# %% idea.py: one_to_nine

# %% [markdown]
# ## 形状能回来，数值回不来
#
# 先用 C 变小，再用 Cᵀ 变大，结果又是 4x4，但不再是原来的图像。没有任何映射能保证还
# 原：4 个数装不下 16 个数的信息。下面这幅不同的图像，卷积之后得到完全相同的四个数。
# 所以“反卷积”（deconvolution）这个旧称容易误导人：它并不是卷积的逆运算。

# %% idea.py: not_an_inverse

# %% [markdown]
# ## 卷积核是学出来的
#
# 上面的卷积核来自一个卷积，但在网络里不必如此：转置卷积的权重是它自己的参数，由训练
# 得到。它前面不需要有对应的卷积；即使有（例如自编码器），两者的权重通常也不相同。被
# “转置”的只是*连接方式*，也就是哪个粗网格位置与哪个细网格位置相连。
#
# 训练需要损失函数对卷积核的梯度，用 `jax.grad` 就能得到。下面用梯度下降，仅凭一幅输
# 出图像就找回了生成它的卷积核。

# %% idea.py: learned

# %% [markdown]
# ## 步幅，以及插入的零
#
# 想把图像放大一倍，而不只是多出一圈边，就要用步幅 2。此时卷积每次移动两格，转置卷积
# 的图章之间也相隔两格：2x2 变成 5x5。
#
# 教科书里常用一个普通卷积来得到同样的结果：在相邻输入之间插入一个零，四周再填充两圈
# 零，把卷积核旋转 180 度，然后以步幅 1 滑动。所以它也叫“分数步幅卷积”（fractionally
# strided convolution）。

# %% idea.py: zero_insertion

# %% [markdown]
# 这幅图是对的，但当作算法来用就很浪费：大多数乘积都有一个因子是零。用图章的方式计
# 算，一个多余的乘法也没有。若步幅为 s、空间维数为 n，不计边界，插零的计算量是有效计
# 算量的 sⁿ 倍。

# %% idea.py: cost

# %% [markdown]
# 因此 tconv 从不插零；凡是 `jax.lax.conv_transpose` 插零的地方，tconv 都更快。数据见
# [Speed](speed.md)。
#
# ## 同一个输出，几种输入大小
#
# 步幅大于 1 时，卷积可能把两种大小映射成同一种：3x3 的卷积核、步幅 2，5x5 和 6x6 都
# 变成 2x2。反过来，转置卷积就要做选择，由 `output_size` 指定。
# [Which padding?](padding.md) 可以替你计算填充和大小。

# %% idea.py: sizes

# %% [markdown]
# ## 插值，还是学习？
#
# 最近邻、双线性和双三次插值也能放大图像。除边界以外，它们都是卷积核*固定*的转置卷积：

# %% idea.py: fixed

# %% [markdown]
# 固定的卷积核对所有图像都一样，学出来的卷积核则适应自己的任务。这里的任务是把一张猫
# 的照片放大一倍：卷积核从双线性插值出发，只用照片的左半边训练，误差则在没见过的右半
# 边上计算。

# %% idea.py: enlarge

# %% [markdown]
# PSNR 衡量与原图的接近程度，越大越好。
#
# ## 用在哪里
#
# **生成网络。** DCGAN 把一个随机向量变成图像。每一层都是步幅为 2 的转置卷积，边长加
# 倍，通道数（大体上）减半：

# %% idea.py: dcgan

# %% [markdown]
# **语义分割。** 全卷积网络（FCN）要判断每个像素的类别。卷积把 512x512 的图像缩小成
# 16x16、21 个类别的得分；转置卷积再把得分依次放大 2 倍、2 倍、8 倍。卷积核以双线性插
# 值初始化，然后继续训练：

# %% idea.py: fcn

# %% [markdown]
# ## 提醒：棋盘效应
#
# 数一数步幅为 2 时，每个细网格位置上盖了几个图章。卷积核是 3x3 时，次数在 4、2、1 之
# 间交替；是 4x4 时，除边界外处处相等。

# %% idea.py: overlap

# %% [markdown]
# 让卷积核大小是步幅的整数倍，可以避免重叠不均。但权重是学出来的，各个相位上的权重之
# 和仍可能不等。更可靠的办法有两种：*缩放卷积*（resize-convolution，先插值放大，再做步
# 幅为 1 的卷积），或者让卷积核各相位之和相等（`tconv.equalize_phases`）。下面用随机的
# 卷积核放大一片均匀的灰色：

# %% idea.py: checkerboard

# %% [markdown]
# [Checkerboards](checkerboards.py) 说明了棋盘效应的成因、怎样在图像中测量它，以及哪种
# 网络适合哪种办法。
#
# ## 参考文献
#
# - Dumoulin 和 Visin，
#   [A guide to convolution arithmetic for deep learning](https://arxiv.org/abs/1603.07285)，
#   2016。
# - Radford、Metz 和 Chintala，
#   [Unsupervised representation learning with deep convolutional generative adversarial networks](https://arxiv.org/abs/1511.06434)，
#   2015。
# - Long、Shelhamer 和 Darrell，
#   [Fully convolutional networks for semantic segmentation](https://arxiv.org/abs/1411.4038)，
#   2014。
# - Odena、Dumoulin 和 Olah，
#   [Deconvolution and checkerboard artifacts](https://doi.org/10.23915/distill.00003)，
#   2016。
