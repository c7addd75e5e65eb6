# Privilege level 0, compatibility mode: segment 0x38 is 32-bit code. The handlers are 64-bit.

.macro to_32_bits
    push 0x38
    lea rax, [rip + 2f]
    push rax
    retfq
    .code32
2:
.endm

.macro to_64_bits
    # jmp 0x08:2f
    .byte 0xEA
    .long 2f
    .word 8
    .code64
2:
.endm

# INTO is a trap.
check overflow, 4, 0, after, 1, 0
    to_32_bits
    mov eax, 0x7FFFFFFF
    inc eax
    into
overflow_after:
    mov eax, 1
    to_64_bits
    ret

# BOUND is a fault.
check bound_range, 5, 0, at, 0, 0
    to_32_bits
    push 20
    push 10
    mov eax, 21
bound_range_at:
    .byte 0x62, 0x04, 0x24
    .code64

# In range, BOUND does nothing; then a breakpoint, for there must be an exception.
check bound_in_range, 3, 0, after, 1, 0
    to_32_bits
    push 20
    push 10
    mov eax, 20
    .byte 0x62, 0x04, 0x24
    pop eax
    pop eax
    int3
bound_in_range_after:
    mov eax, 1
    to_64_bits
    ret

# What is a REX prefix in 64-bit mode is DEC EAX here.
check opcodes_of_32_bits, 3, 0, after, 1, 0
    to_32_bits
    mov eax, 2
    .byte 0x48
    int3
opcodes_of_32_bits_after:
    to_64_bits
    ret

# SYSCALL was never switched on.
check system_call_switched_off, 6, 0, at, 0, 0
system_call_switched_off_at:
    syscall
    ret
